// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/bootstrap"
)

// BootstrapParams is what a proxy must know before it can ask for the rest.
type BootstrapParams struct {
	// Gateway is the one the proxy serves; its client certificate must name it.
	Gateway types.NamespacedName
	// NodeID is the node's identity in logs; the Deployment overrides it for each
	// pod with Envoy's flag --service-node.
	NodeID string
	// ControlPlaneHost and ControlPlanePort are where the ADS server listens. Host
	// is a DNS name or an IP address.
	ControlPlaneHost string
	ControlPlanePort uint32
	// ControlPlaneName is the DNS name that the server's certificate must carry.
	ControlPlaneName string
	// CertDir is the mounted directory with tls.crt, tls.key and ca.crt, and
	// ConfigDir the one with the Files. Envoy watches CertDir: rotated files are used
	// without a restart.
	CertDir, ConfigDir string
	// AdminPort is bound on 127.0.0.1 only. StatsPort serves /ready and
	// /stats/prometheus, and nothing else, on every address.
	AdminPort, StatsPort uint32
	// IPv6 is true when pods of the cluster have IPv6 addresses.
	IPv6 bool
	// MaxConnections bounds the downstream connections of one proxy; 0 means 50,000.
	MaxConnections uint32
	// MaxHeapBytes is where the overload manager refuses new work; 0 leaves it out.
	MaxHeapBytes uint64
	// Extra is a part of a bootstrap, as JSON, that is merged in; one that package
	// bootstrap refuses is left out.
	Extra []byte
}

// Names of the Files.
const (
	FileBootstrap   = "bootstrap.json"
	FileCertificate = "sds-certificate.json"
	FileAuthority   = "sds-authority.json"
)

// Names of the certificate files in BootstrapParams.CertDir, as in a Secret of
// type kubernetes.io/tls.
const (
	fileCert = "tls.crt"
	fileKey  = "tls.key"
	fileCA   = "ca.crt"
)

const (
	controlPlaneCluster = bootstrap.ControlPlane
	adminCluster        = bootstrap.Admin
	defaultConnections  = 50_000
)

// Files gives all files that a proxy needs in BootstrapParams.ConfigDir, by name: the
// bootstrap, and the two through which Envoy watches its certificates (it only
// rereads certificates that a file of this form refers to).
func Files(p BootstrapParams) map[string][]byte {
	return map[string][]byte{
		FileBootstrap:   Bootstrap(p),
		FileCertificate: sdsFile(certificateSecret(p.CertDir)),
		FileAuthority:   sdsFile(authoritySecret(p)),
	}
}

// Bootstrap is Envoy's static configuration as JSON. Equal parameters give equal bytes.
func Bootstrap(p BootstrapParams) []byte {
	base := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{
			Id:      p.NodeID,
			Cluster: p.Gateway.String(),
		},
		Admin: &bootstrapv3.Admin{Address: socketAddress("127.0.0.1", p.AdminPort)},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &corev3.ApiConfigSource{
				ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
				TransportApiVersion:       corev3.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
						ClusterName: controlPlaneCluster,
						// Envoy would wait up to 30 s; a release waits with it for its confirmations.
						RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
							BaseInterval: durationpb.New(100 * time.Millisecond), MaxInterval: durationpb.New(2 * time.Second),
						}},
					},
				}}},
			},
			// Without a timeout the proxy is not ready until its first configuration is
			// complete, however long the control plane is away.
			CdsConfig: adsSource(seconds(0)),
			LdsConfig: adsSource(seconds(0)),
		},
		StaticResources: staticResources(p),
		LayeredRuntime:  layeredRuntime(),
		OverloadManager: overloadManager(p),
		ClusterManager:  &bootstrapv3.ClusterManager{LoadStatsConfig: loadReports()},
		StatsConfig:     statsConfig(p.Gateway),
		StatsSinks:      []*metricsv3.StatsSink{statsSink()},
		// A flush is paid for by every statistic that there is, so it is made when
		// somebody asks for statistics, as Prometheus does, and each second by flushCluster while a release runs.
		StatsFlush: &bootstrapv3.Bootstrap_StatsFlushOnAdmin{StatsFlushOnAdmin: true},
		// Statistics of a cluster come to life with its first request: thousands of idle
		// ones then cost nothing.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
	}
	if len(p.Extra) > 0 {
		if extra, err := bootstrap.Parse(p.Extra); err == nil {
			flushBy(base, extra)
			base = bootstrap.Merge(base, extra)
		}
	}
	return toJSON(base)
}

// layeredRuntime holds Envoy's limit on regular expressions, which graph.Build
// bounds instead (Envoy's own, of 100 instructions, refuses /a{100}), then the
// weights of running releases, and on top what an operator sets by hand through
// the admin interface.
func layeredRuntime() *bootstrapv3.LayeredRuntime {
	out := &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "static",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": structpb.NewNumberValue(math.MaxUint32),
		}}},
	}}}
	for _, name := range RuntimeLayers() {
		out.Layers = append(out.Layers, &bootstrapv3.RuntimeLayer{
			Name: name,
			LayerSpecifier: &bootstrapv3.RuntimeLayer_RtdsLayer_{RtdsLayer: &bootstrapv3.RuntimeLayer_RtdsLayer{
				Name: name, RtdsConfig: adsSource(seconds(0)),
			}},
		})
	}
	out.Layers = append(out.Layers, &bootstrapv3.RuntimeLayer{
		Name: "admin",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{
			AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{},
		},
	})
	return out
}

func overloadManager(p BootstrapParams) *overloadv3.OverloadManager {
	connections := p.MaxConnections
	if connections == 0 {
		connections = defaultConnections
	}
	out := &overloadv3.OverloadManager{
		RefreshInterval: &durationpb.Duration{Nanos: 250_000_000},
		ResourceMonitors: []*overloadv3.ResourceMonitor{monitor(
			"envoy.resource_monitors.global_downstream_max_connections",
			&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(connections)},
		)},
	}
	if p.MaxHeapBytes == 0 {
		return out
	}
	const heap = "envoy.resource_monitors.fixed_heap"
	out.ResourceMonitors = append(out.ResourceMonitors, monitor(heap, &heapv3.FixedHeapConfig{MaxHeapSizeBytes: p.MaxHeapBytes}))
	for _, a := range []struct {
		name string
		at   float64
	}{
		{"envoy.overload_actions.shrink_heap", 0.90},
		{"envoy.overload_actions.disable_http_keepalive", 0.95},
		{"envoy.overload_actions.stop_accepting_requests", 0.98},
	} {
		out.Actions = append(out.Actions, &overloadv3.OverloadAction{
			Name: a.name,
			Triggers: []*overloadv3.Trigger{{
				Name:         heap,
				TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: a.at}},
			}},
		})
	}
	return out
}

func monitor(name string, config proto.Message) *overloadv3.ResourceMonitor {
	return &overloadv3.ResourceMonitor{
		Name:       name,
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: toAny(config)},
	}
}

func certificateSecret(dir string) *tlsv3.Secret {
	return &tlsv3.Secret{
		Name: "certificate",
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: fileSource(dir + "/" + fileCert),
			PrivateKey:       fileSource(dir + "/" + fileKey),
			WatchedDirectory: &corev3.WatchedDirectory{Path: dir},
		}},
	}
}

func authoritySecret(p BootstrapParams) *tlsv3.Secret {
	validation := &tlsv3.CertificateValidationContext{
		TrustedCa:        fileSource(p.CertDir + "/" + fileCA),
		WatchedDirectory: &corev3.WatchedDirectory{Path: p.CertDir},
	}
	kind := tlsv3.SubjectAltNameMatcher_DNS
	if _, err := netip.ParseAddr(p.ControlPlaneName); err == nil {
		kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	validation.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{{
		SanType: kind, Matcher: exactly(p.ControlPlaneName),
	}}
	return &tlsv3.Secret{
		Name: "authority",
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation},
	}
}

func sdsFile(s *tlsv3.Secret) []byte {
	return toJSON(&discoveryv3.DiscoveryResponse{VersionInfo: "1", Resources: []*anypb.Any{toAny(s)}})
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// toJSON gives the bytes of a message as JSON. They are laid out anew, because protojson
// varies its blanks on purpose. Neither step can fail for a message that was made
// here, so an error is a defect of this package.
func toJSON(m proto.Message) []byte {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		panic("encoding the bootstrap: " + err.Error())
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		panic("encoding the bootstrap: " + err.Error())
	}
	out.WriteByte('\n')
	return out.Bytes()
}
