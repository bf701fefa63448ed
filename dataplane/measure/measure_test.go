// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
)

var edge = types.NamespacedName{Namespace: "infra", Name: "edge"}

func gathered(t *testing.T, p *Passes) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(p); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if h := m.Histogram; h != nil {
				got["count"], got["sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			got[labels["gateway"]+" "+labels["secret"]] = m.Gauge.GetValue()
		}
	}
	return got
}

func TestFromTheFirstEventToThePublication(t *testing.T) {
	for _, row := range []struct {
		name string
		pass func(p *Passes, sleep func(time.Duration))
		want map[string]float64
	}{
		{"the first of two events counts", func(p *Passes, sleep func(time.Duration)) {
			p.Noted()
			sleep(time.Second)
			p.Noted()
			sleep(time.Second)
			p.Published(edge, p.Take())
		}, map[string]float64{"count": 1, "sum": 2}},
		{"a pass without an event, such as one that waited for a time", func(p *Passes, sleep func(time.Duration)) {
			p.Published(edge, p.Take())
		}, map[string]float64{}},
		{"a pass that came to nothing is part of the time", func(p *Passes, sleep func(time.Duration)) {
			p.Noted()
			first := p.Take()
			sleep(3 * time.Second)
			p.Noted()
			p.PutBack(first)
			p.Published(edge, p.Take())
		}, map[string]float64{"count": 1, "sum": 3}},
		{"a Gateway that is gone", func(p *Passes, sleep func(time.Duration)) {
			p.Noted()
			p.Published(edge, p.Take())
			p.Forget(edge)
		}, map[string]float64{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := time.Unix(1_000_000, 0)
			p := New(func() time.Time { return now })
			row.pass(p, func(d time.Duration) { now = now.Add(d) })
			if diff := cmp.Diff(row.want, gathered(t, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhenCertificatesEnd(t *testing.T) {
	begin := time.Now().Truncate(time.Second)
	old, err := pki.NewAuthority(begin.Add(-time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := pki.NewAuthority(begin, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(cert []byte) *graph.Graph {
		return &graph.Graph{Gateways: []*graph.Gateway{{Key: edge, Listeners: []*graph.Listener{{Certificates: []graph.Certificate{
			{Secret: types.NamespacedName{Namespace: "infra", Name: "web"}, Cert: cert},
			{Secret: types.NamespacedName{Namespace: "infra", Name: "broken"}, Cert: []byte("none")},
		}}}}}}
	}
	p := New(time.Now)
	p.Certificates(with(old.Cert))
	was := gathered(t, p)
	p.Certificates(with(fresh.Cert))
	is := gathered(t, p)
	if len(was) != 1 || was["edge web"] < float64(begin.Unix()) {
		t.Errorf("%v, want the end of one certificate", was)
	}
	if is["edge web"]-was["edge web"] != time.Hour.Seconds() {
		t.Errorf("renewed, it ends at %v, before at %v: want an hour more", is, was)
	}
	p.Certificates(&graph.Graph{})
	if none := gathered(t, p); len(none) > 0 {
		t.Errorf("without Gateways: %v", none)
	}
}
