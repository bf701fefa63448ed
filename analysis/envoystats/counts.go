// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"bytes"
)

// slot is one statistic of a cluster. The histograms come last.
type slot uint

const (
	slot101 slot = iota
	slot2xx
	slot3xx
	slot4xx
	slot5xx
	slotInternal101
	slotInternal2xx
	slotInternal3xx
	slotInternal4xx
	slotInternal5xx
	slotGRPC
	slotGRPC2
	slotGRPC4
	slotGRPC12
	slotGRPC13
	slotGRPC14
	slotGRPC15
	slotTimeout
	slotTryTimeout
	slotReset
	slotConnectFailure
	slotOverflow
	slotNoneHealthy
	slotRetry
	slotTime
	slotInternalTime
	slots
)

// slotOf tells which statistic of a cluster has a name. Each request of a client is once
// among the answers by class or, if it was a gRPC call, among those that ended with a
// code, whatever was tried to answer it. "internal" repeats the answers that were no
// client's, such as those to mirrored requests. Of the answers of 1xx only 101, to an upgrade, is the
// last one: behind the others, such as 103 Early Hints, comes another that counts.
func slotOf(stat []byte) (slot, bool) {
	switch string(stat) {
	case "upstream_rq_101":
		return slot101, true
	case "upstream_rq_2xx":
		return slot2xx, true
	case "upstream_rq_3xx":
		return slot3xx, true
	case "upstream_rq_4xx":
		return slot4xx, true
	case "upstream_rq_5xx":
		return slot5xx, true
	case "internal.upstream_rq_101":
		return slotInternal101, true
	case "internal.upstream_rq_2xx":
		return slotInternal2xx, true
	case "internal.upstream_rq_3xx":
		return slotInternal3xx, true
	case "internal.upstream_rq_4xx":
		return slotInternal4xx, true
	case "internal.upstream_rq_5xx":
		return slotInternal5xx, true
	case "grpc.total":
		return slotGRPC, true
	// The codes that say that the server is to blame: Unknown, DeadlineExceeded, Unimplemented,
	// Internal, Unavailable and DataLoss, which google.rpc.Code maps to a 5xx. The proxy's
	// own answers are Unavailable.
	case "grpc.2":
		return slotGRPC2, true
	case "grpc.4":
		return slotGRPC4, true
	case "grpc.12":
		return slotGRPC12, true
	case "grpc.13":
		return slotGRPC13, true
	case "grpc.14":
		return slotGRPC14, true
	case "grpc.15":
		return slotGRPC15, true
	case "upstream_rq_time":
		return slotTime, true
	case "internal.upstream_rq_time":
		return slotInternalTime, true
	}
	return signOf(stat)
}

// signOf tells which of the statistics it is that say why, not how many.
func signOf(stat []byte) (slot, bool) {
	switch string(stat) {
	case "upstream_rq_timeout":
		return slotTimeout, true
	case "upstream_rq_per_try_timeout":
		return slotTryTimeout, true
	case "upstream_rq_rx_reset":
		return slotReset, true
	case "upstream_rq_pending_failure_eject":
		return slotConnectFailure, true
	case "upstream_rq_pending_overflow":
		return slotOverflow, true
	case "upstream_cx_none_healthy":
		return slotNoneHealthy, true
	case "upstream_rq_retry":
		return slotRetry, true
	}
	return 0, false
}

// upstreamOf is the part of a cluster's name that says which upstream it is,
// "namespace/service/port"; empty when it has none. What follows is the protocol, unless
// it is no Service.
func upstreamOf(cluster []byte) []byte {
	end := 0
	for part := range 3 {
		n := bytes.IndexByte(cluster[end:], '/')
		if n < 0 {
			if part < 2 {
				return nil
			}
			return cluster
		}
		if part == 2 {
			end += n
			break
		}
		end += n + 1
	}
	if rest := cluster[end+1:]; bytes.HasPrefix(rest, []byte("xbackend")) && (len(rest) == len("xbackend") || rest[len("xbackend")] == '/') {
		return nil
	}
	return cluster[:end]
}

// Classes are the requests of one version by what became of them, to show. The first
// seven add up to all requests that were answered; the others are signs of why, and
// count tries, not requests.
type Classes struct {
	Upgraded, Success, Redirection, ClientError, ServerError float64
	// GRPC are calls that ended without the server's fault, GRPCFault those with.
	GRPC, GRPCFault float64

	// Timeouts of requests and of single tries.
	Timeouts float64
	// Resets are tries that the backend broke off, ConnectFailures those that found nobody
	// at the endpoint's address, NoEndpoint those for which there was no endpoint at all, and Overflows those
	// that found a circuit breaker open.
	Resets, ConnectFailures, NoEndpoint, Overflows float64
	// Retries are second and further tries.
	Retries float64
}

func (c *Classes) add(o *Classes) {
	c.Upgraded += o.Upgraded
	c.Success += o.Success
	c.Redirection += o.Redirection
	c.ClientError += o.ClientError
	c.ServerError += o.ServerError
	c.GRPC += o.GRPC
	c.GRPCFault += o.GRPCFault
	c.Timeouts += o.Timeouts
	c.Resets += o.Resets
	c.ConnectFailures += o.ConnectFailures
	c.NoEndpoint += o.NoEndpoint
	c.Overflows += o.Overflows
	c.Retries += o.Retries
}

// cluster is one cluster of a proxy: its counts of the flush that is being read, and what
// is carried from one flush to the next.
type cluster struct {
	upstream *upstream
	seen     uint32
	counts   [slotTime]float64
	// times are those of all requests, and of those that were no client's.
	times [2]histogram
	carry
	before float64 // requests of the flush before
}

// carry is what the counters of a flush cannot show together. Envoy reads one counter after the other while requests
// end, so a request can be bad in one flush and a request at all in the next.
type carry struct {
	requests, bad float64
}

func (c *cluster) clear() {
	if c.seen == 0 {
		return
	}
	c.seen = 0
	clear(c.counts[:])
	for i := range c.times {
		c.times[i].clear()
	}
}

func (c *cluster) classes() Classes {
	at := &c.counts
	fault := at[slotGRPC2] + at[slotGRPC4] + at[slotGRPC12] + at[slotGRPC13] + at[slotGRPC14] + at[slotGRPC15]
	return Classes{
		Upgraded:    at[slot101] - at[slotInternal101],
		Success:     at[slot2xx] - at[slotInternal2xx],
		Redirection: at[slot3xx] - at[slotInternal3xx],
		ClientError: at[slot4xx] - at[slotInternal4xx],
		ServerError: at[slot5xx] - at[slotInternal5xx],
		GRPC:        at[slotGRPC] - fault, GRPCFault: fault,
		Timeouts: at[slotTimeout] + at[slotTryTimeout], Resets: at[slotReset],
		ConnectFailures: at[slotConnectFailure], NoEndpoint: at[slotNoneHealthy],
		Overflows: at[slotOverflow], Retries: at[slotRetry],
	}
}

func (c *Classes) requests() float64 {
	return c.Upgraded + c.Success + c.Redirection + c.ClientError + c.ServerError + c.GRPC + c.GRPCFault
}

func (c *Classes) bad() float64 { return c.ServerError + c.GRPCFault }
