// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"math"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/api/v1beta1"
)

// accessLogFields are what a line of the access log says about a request. A value that
// is not known is null. The route is kind/namespace/name/rule/match, the backend
// namespace/service/port: what each names is told apart by the slashes.
func accessLogFields(gateway types.NamespacedName) map[string]string {
	return map[string]string{
		"time": "%START_TIME%", "gateway": gateway.String(),
		"method": "%REQ(:METHOD)%", "host": "%REQ(:AUTHORITY)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%",
		"status": "%RESPONSE_CODE%", "details": "%RESPONSE_CODE_DETAILS%", "flags": "%RESPONSE_FLAGS%", "grpc_status": "%GRPC_STATUS%",
		"duration_ms": "%DURATION%", "upstream_ms": "%RESPONSE_DURATION%", "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%",
		"route": "%ROUTE_NAME%", "backend": "%UPSTREAM_CLUSTER%", "upstream": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
		"pod": endpointField("pod"), "version": endpointField("version"), "rule": "%METADATA(ROUTE:" + routeMetadata + ":rule)%",
		"upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"client":           "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%",
		"server_name": "%REQUESTED_SERVER_NAME%", "request_id": "%REQ(X-REQUEST-ID)%", "trace_id": "%TRACE_ID%",
	}
}

// endpointField is what an endpoint says about the pod behind it.
func endpointField(name string) string {
	return "%UPSTREAM_METADATA(" + endpointMetadata + ":" + name + ")%"
}

// routeMetadata is where a route has the name of its rule, for the access log.
const routeMetadata = "headgate"

// nameRule writes the rule's name into its routes; most rules have none.
func nameRule(name string) *corev3.Metadata {
	if name == "" {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		routeMetadata: {Fields: map[string]*structpb.Value{"rule": structpb.NewStringValue(name)}},
	}}
}

// accessLogKey is the runtime key of the share of requests that are logged. As a key of
// its own, turning the log off and on changes no listener, and so ends no connection.
const accessLogKey = "headgate.access_log"

// accessLogs writes lines to standard output, with these fields where log does not say
// otherwise. It may change the map.
func accessLogs(fields map[string]string, log *v1beta1.AccessLog) []*accesslogv3.AccessLog {
	format := &corev3.SubstitutionFormatString{OmitEmptyValues: false}
	if log != nil && log.Text != "" {
		format.Format = &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: strings.TrimSuffix(log.Text, "\n") + "\n"},
		}}
	} else {
		if log != nil {
			maps.Copy(fields, log.Fields)
		}
		line := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for name, value := range fields {
			if value != "" {
				line.Fields[name] = structpb.NewStringValue(value)
			}
		}
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: line}
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{RuntimeFilter: &accesslogv3.RuntimeFilter{
			RuntimeKey:     accessLogKey,
			PercentSampled: &typev3.FractionalPercent{Numerator: million, Denominator: typev3.FractionalPercent_MILLION},
			// Else one request id would decide for all proxies that the request passes.
			UseIndependentRandomness: true,
		}}},
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format},
		})},
	}}
}

// loggedParts is the share of requests that are logged, in parts of a million.
func loggedParts(log *v1beta1.AccessLog) uint32 {
	switch {
	case log == nil:
		return million
	case log.Format == v1beta1.AccessLogOff:
		return 0
	case log.Sample == "":
		return million
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(log.Sample, "%"), 64)
	if err != nil || percent < 0 || percent > 100 { // the API's schema lets none of these pass
		return million
	}
	return uint32(math.Round(percent * million / 100))
}

// accessLogShare is the value of accessLogKey: this filter reads a number, in the
// denominator of its default.
func accessLogShare(log *v1beta1.AccessLog) *structpb.Value {
	return structpb.NewNumberValue(float64(loggedParts(log)))
}
