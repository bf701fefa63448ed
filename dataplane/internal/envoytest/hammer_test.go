// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	plainRequest = "GET /hello?x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: guard\r\nAccept: */*\r\n\r\n"
	plainBody    = "a page of a few bytes\n"
)

// newPlainBackend starts a server of HTTP/1.1 that computes next to nothing, so that a
// machine of few cores is left to the proxy.
func newPlainBackend(tb testing.TB) *Backend {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(plainBody)) + "\r\n\r\n" + plainBody)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				reader := bufio.NewReader(conn)
				for {
					if _, _, err := readHead(reader); err != nil {
						return
					}
					if _, err := conn.Write(response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return &Backend{Name: "plain", address: listener.Addr().(*net.TCPAddr)}
}

// readHead reads the first line and the headers of a message, and its length.
func readHead(r *bufio.Reader) (first string, length int, err error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return first, length, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first == "":
			first = string(line)
		case len(line) == 0:
			return first, length, nil
		case len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return first, length, err
			}
		}
	}
}

// hammer sends requests on connections that it keeps. It computes little itself.
type hammer struct {
	conns   []net.Conn
	readers []*bufio.Reader
}

func newHammer(tb testing.TB, port uint32) *hammer {
	tb.Helper()
	h := &hammer{}
	for range 16 {
		conn, err := net.Dial("tcp", Address(port))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = conn.Close() })
		h.conns, h.readers = append(h.conns, conn), append(h.readers, bufio.NewReader(conn))
	}
	return h
}

// one sends a request on a connection and reads the answer.
func (h *hammer) one(i int) error {
	if err := h.conns[i].SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(h.conns[i], plainRequest); err != nil {
		return err
	}
	first, length, err := readHead(h.readers[i])
	if err != nil {
		return err
	}
	if _, err := h.readers[i].Discard(length); err != nil {
		return err
	}
	if first != "HTTP/1.1 200 OK" || length != len(plainBody) {
		return fmt.Errorf("%s with %d bytes", first, length)
	}
	return nil
}

// saturate sends so many requests as fast as they are answered, on all connections, and
// tells how long they took.
func (h *hammer) saturate(tb testing.TB, requests int64) time.Duration {
	tb.Helper()
	var left atomic.Int64
	left.Store(requests)
	start := time.Now()
	h.each(tb, func(i int) error {
		for left.Add(-1) >= 0 {
			if err := h.one(i); err != nil {
				return err
			}
		}
		return nil
	})
	return time.Since(start)
}

// steady sends so many requests, one in every interval, and gives the median and the 99th percentile
// in milliseconds of the time from when a request was due to its answer.
func (h *hammer) steady(tb testing.TB, requests int, interval time.Duration) (p50, p99 float64) {
	tb.Helper()
	times := make([]float64, requests)
	var next atomic.Int64
	start := time.Now()
	h.each(tb, func(i int) error {
		for {
			n := int(next.Add(1)) - 1
			if n >= requests {
				return nil
			}
			due := start.Add(time.Duration(n) * interval)
			time.Sleep(time.Until(due))
			if err := h.one(i); err != nil {
				return err
			}
			times[n] = float64(time.Since(due).Microseconds()) / 1000
		}
	})
	slices.Sort(times)
	return times[requests/2], times[requests*99/100]
}

// each does something on every connection at once.
func (h *hammer) each(tb testing.TB, do func(i int) error) {
	tb.Helper()
	failures := make([]error, len(h.conns))
	var wg sync.WaitGroup
	for i := range h.conns {
		wg.Go(func() { failures[i] = do(i) })
	}
	wg.Wait()
	if err := errors.Join(failures...); err != nil {
		tb.Fatal(err)
	}
}
