// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// world is a small cluster: one Deployment with its controller, one Service
// with its endpoints, one route with its proxies, an autoscaler, an admission
// policy, and an operator that may crash between any two of its writes.
type world struct {
	rand    *rand.Rand
	now     time.Time
	canary  *v1beta1.Canary
	gone    bool // the Canary object is deleted
	version int  // resourceVersion of the Canary

	dep        *deployment
	sets       []*replicaSet
	service    service
	twin       service // the canary's Service
	twinThere  Presence
	route      *route
	proxies    proxies
	foreign    bool // the gateway does not report its proxies
	stuck      bool // the gateway does nothing for now
	stuckSince time.Time
	overdue    bool // so long that pods are removed without its word
	scaler     scaler

	bad      map[string]bool // templates whose verdict is Fail
	crashing map[string]bool // hashes whose pods do not stay up
	unknown  bool            // telemetry is down
	sure     bool            // the verdict is always there
	faulted  bool            // a pod fault was injected; endpoints may be missing
	log      []string
}

type deployment struct {
	uid          int
	version      int
	template     string
	replicas     int32
	paused, held bool
	label        string
	bypass       bool
}

type replicaSet struct {
	name, hash, template string
	owner                Owner
	ownerUID             int
	replicas             int32
	desired              int32  // the annotation desired-replicas
	pods                 []bool // ready?
}

type service struct {
	hash   string
	traces bool
	ready  map[string]int32
}

type route struct {
	version, generation int
	user                string // everything of the user's, as one word
	percent             int32  // Detached without the canary
	traces              bool
	closed              *Closing
	programmed          int // generation
}

type proxies struct {
	there   bool
	percent int32 // share of the canary's Service
}

type scaler struct {
	there, held bool
	user        string
}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &world{
		rand: r, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		canary: &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "checkout", Generation: 1, Annotations: map[string]string{}}},
		bad:    map[string]bool{}, crashing: map[string]bool{},
		foreign: r.IntN(3) == 0,
	}
	w.canary.Spec.Target.Name = "checkout"
	if r.IntN(2) == 0 {
		w.canary.Spec.Steps = []v1beta1.Step{
			{Weight: 0, Hold: seconds(1)}, {Weight: 10, Hold: seconds(5)}, {Weight: 60, Approval: r.IntN(2) == 0}, {Weight: 100, Bake: seconds(3)},
		}
	}
	if r.IntN(2) == 0 {
		w.canary.Spec.KeepFailed = seconds(r.IntN(30))
	}
	w.canary.Spec.ProgressDeadline = seconds(60)
	w.dep = &deployment{uid: 1, template: "t0", replicas: int32(1 + r.IntN(6))}
	w.sets = []*replicaSet{{name: "checkout-a", hash: "a", template: "t0", owner: OwnerTarget, ownerUID: 1, replicas: w.dep.replicas, desired: w.dep.replicas}}
	w.route = &route{user: "v1", percent: Detached, programmed: 0}
	w.scaler = scaler{there: r.IntN(2) == 0, user: "h1"}
	for range 50 {
		w.kubelet()
	}
	w.endpoints()
	w.gateway()
	return w
}

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%s ", w.now.Format("15:04:05.000"))+fmt.Sprintf(format, args...))
}

// observe is what the operator reads.
func (w *world) observe() Observation {
	var o Observation
	if d := w.dep; d != nil {
		o.Target = &Target{Template: d.template, Replicas: d.replicas, Paused: d.paused, Held: d.held, Label: d.label, Bypass: d.bypass}
	}
	for _, rs := range w.sets {
		if rs.owner == OwnerTarget && (w.dep == nil || rs.ownerUID != w.dep.uid) {
			continue
		}
		seen := ReplicaSet{Name: rs.name, Hash: rs.hash, Template: rs.template, Owner: rs.owner, Replicas: rs.replicas, Pods: int32(len(rs.pods))}
		for _, ready := range rs.pods {
			if ready {
				seen.Ready++
				seen.Available++
			}
		}
		if w.crashing[rs.hash] && rs.owner == OwnerCanary && len(rs.pods) > 0 && w.rand.IntN(2) == 0 {
			seen.Trouble = "pod x: CrashLoopBackOff"
		}
		o.ReplicaSets = append(o.ReplicaSets, seen)
	}
	o.Service = &Service{Name: "checkout", Hash: w.service.hash, Traces: w.service.traces, Ready: w.service.ready}
	o.CanaryService = CanaryService{Name: "checkout-canary", Presence: w.twinThere, Hash: w.twin.hash, InSync: true}
	for _, n := range w.twin.ready {
		o.CanaryService.Ready += n
	}
	if r := w.route; r != nil {
		o.Routes = []Route{{
			Ref: v1beta1.RouteReference{Kind: "HTTPRoute", Name: "checkout"}, Percent: r.percent, Reaches: r.percent > 0, Traces: r.traces,
			Programmed: r.programmed >= r.generation, Foreign: w.foreign, Message: "not programmed", Closed: r.closed,
		}}
	}
	if w.scaler.there {
		o.Scalers = []Scaler{{Name: "checkout", Held: w.scaler.held, Traces: w.scaler.held}}
	}
	o.Verdict = w.verdict()
	return o
}

func (w *world) verdict() analysis.Verdict {
	if w.dep == nil || !Measuring(w.canary) {
		return analysis.Verdict{}
	}
	switch {
	case w.unknown || !w.sure && w.rand.IntN(3) == 0:
		return analysis.Verdict{Result: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonTooFewRequests, Why: "few"}
	case w.bad[w.dep.template]:
		return analysis.Verdict{Result: v1beta1.VerdictFail, Reason: v1beta1.ReasonOutOfTolerance, Why: "errors 5 % against 0.1 %"}
	}
	return analysis.Verdict{Result: v1beta1.VerdictPass, Reason: v1beta1.ReasonWithinTolerance, Why: "fine"}
}

// act carries out one action. seenDep and seenRoute are the versions the pass read.
func (w *world) act(a Action, seenDep, seenRoute int) error {
	conflict := fmt.Errorf("conflict")
	switch a := a.(type) {
	case EnsureFinalizer:
		w.canary.Finalizers = []string{v1beta1.Finalizer}
		w.version++
	case EnsureFinalizerRemoved:
		w.gone = true
		w.sets = slices.DeleteFunc(w.sets, func(rs *replicaSet) bool { return rs.owner == OwnerCanary })
	case ClearCommand:
		if w.canary.Annotations[v1beta1.AnnotationCommand] != a.Value {
			return conflict
		}
		delete(w.canary.Annotations, v1beta1.AnnotationCommand)
		w.version++
	case EnsureHoldLabel, EnsureHoldLabelRemoved, ClearBypass, EnsureUnpaused:
		return w.actOnDeployment(a, seenDep)
	case EnsureServiceNarrowed:
		w.service.hash, w.service.traces = a.Hash, true
	case EnsureServiceRestored:
		w.service.hash, w.service.traces = "", false
	case EnsureCanaryService:
		if w.twinThere == Foreign {
			return conflict
		}
		w.twinThere, w.twin.hash = Ours, a.Hash
	case EnsureCanaryServiceRemoved:
		w.twinThere, w.twin = Absent, service{}
	case EnsureCanaryReplicaSet:
		return w.actOnReplicaSet(a)
	case EnsureCanaryRemoved:
		w.sets = slices.DeleteFunc(w.sets, func(rs *replicaSet) bool { return rs.owner == OwnerCanary && rs.hash == a.Hash })
	case EnsureHistoryMerged:
		w.sets = slices.DeleteFunc(w.sets, func(rs *replicaSet) bool { return slices.Contains(a.Names, rs.name) && rs.replicas == 0 })
	case EnsureHandedOver:
		if rs := w.set(a.Hash); rs != nil && w.dep != nil {
			rs.owner, rs.ownerUID = OwnerTarget, w.dep.uid
		}
	case EnsureTakenBack:
		if rs := w.set(a.Hash); rs != nil {
			rs.owner = OwnerCanary
		}
	case EnsureWeights:
		if w.route == nil {
			return nil
		}
		if w.route.version != seenRoute {
			return conflict
		}
		w.route.percent, w.route.traces = a.Percent, true
		w.route.closed = a.Closed
		w.route.version++
		w.route.generation++
	case EnsureRoutesRestored:
		if w.route == nil {
			return nil
		}
		if w.route.version != seenRoute {
			return conflict
		}
		w.route.percent, w.route.traces, w.route.closed = Detached, false, nil
		w.route.version++
		w.route.generation++
	case EnsureScaleDownHeld:
		w.scaler.held = true
	case EnsureScaleDownRestored:
		w.scaler.held = false
	default:
		panic(fmt.Sprintf("unknown action %T", a))
	}
	return nil
}

func (w *world) actOnDeployment(a Action, seen int) error {
	if w.dep == nil {
		return nil
	}
	if w.dep.version != seen {
		return fmt.Errorf("conflict")
	}
	w.dep.version++
	switch a.(type) {
	case EnsureHoldLabel:
		w.dep.label = w.canary.Name
	case EnsureHoldLabelRemoved:
		w.dep.label, w.dep.held = "", false
	case ClearBypass:
		w.dep.bypass = false
	case EnsureUnpaused:
		w.dep.paused, w.dep.held = false, false
	}
	return nil
}

func (w *world) actOnReplicaSet(a EnsureCanaryReplicaSet) error {
	rs := w.set(a.Hash)
	if rs == nil {
		if w.dep == nil {
			return fmt.Errorf("no deployment")
		}
		rs = &replicaSet{name: "checkout-" + a.Hash, hash: a.Hash, template: w.dep.template, owner: OwnerCanary}
		w.sets = append(w.sets, rs)
	}
	rs.replicas = a.Replicas
	if w.dep != nil {
		rs.desired = w.dep.replicas
	}
	return nil
}

func (w *world) set(hash string) *replicaSet {
	for _, rs := range w.sets {
		if rs.hash == hash {
			return rs
		}
	}
	return nil
}

func (w *world) owned() (all, active []*replicaSet) {
	for _, rs := range w.sets {
		if rs.owner == OwnerTarget && w.dep != nil && rs.ownerUID == w.dep.uid {
			all = append(all, rs)
			if rs.replicas > 0 {
				active = append(active, rs)
			}
		}
	}
	return all, active
}

// deploymentController does one step of what the one of Kubernetes does.
func (w *world) deploymentController() {
	d := w.dep
	if d == nil {
		return
	}
	all, active := w.owned()
	var current *replicaSet
	for _, rs := range all {
		if rs.template == d.template {
			current = rs
			break
		}
	}
	if d.paused {
		w.scale(current, all, active)
		return
	}
	if current == nil {
		current = &replicaSet{name: fmt.Sprintf("checkout-n%d-%s", d.uid, d.template), hash: fmt.Sprintf("n%d-%s", d.uid, d.template), template: d.template, owner: OwnerTarget, ownerUID: d.uid}
		w.sets = append(w.sets, current)
		return
	}
	current.desired = d.replicas
	total, available := int32(0), int32(0)
	for _, rs := range all {
		total += rs.replicas
		available += min(rs.replicas, rs.readyPods())
	}
	switch {
	case current.replicas < d.replicas && total < d.replicas+1:
		current.replicas++
	case current.replicas > d.replicas:
		current.replicas = d.replicas
	case available > d.replicas || d.replicas == 0 || current.readyPods() >= d.replicas:
		for _, rs := range active {
			if rs != current {
				rs.replicas--
				return
			}
		}
	}
}

// scale is the controller's scale(), which runs while a Deployment is paused.
func (w *world) scale(current *replicaSet, all, active []*replicaSet) {
	d := w.dep
	switch {
	case len(active) == 0 && len(all) > 0:
		if current != nil {
			current.replicas, current.desired = d.replicas, d.replicas
		} else {
			all[len(all)-1].replicas = d.replicas
		}
	case len(active) == 1:
		active[0].replicas, active[0].desired = d.replicas, d.replicas
	case current != nil && current.replicas == d.replicas && current.desired == d.replicas && current.readyPods() == d.replicas:
		for _, rs := range active {
			if rs != current {
				rs.replicas = 0
			}
		}
	default: // proportional scaling: never more than replicas + surge in total
		total := int32(0)
		for _, rs := range active {
			total += rs.replicas
			rs.desired = d.replicas
		}
		for total > d.replicas+1 {
			biggest := active[0]
			for _, rs := range active {
				if rs.replicas > biggest.replicas {
					biggest = rs
				}
			}
			biggest.replicas--
			total--
		}
	}
}

func (rs *replicaSet) readyPods() (n int32) {
	for _, ready := range rs.pods {
		if ready {
			n++
		}
	}
	return n
}

// kubelet makes one pod more, fewer, ready or broken.
func (w *world) kubelet() {
	for _, rs := range w.sets {
		switch {
		case len(rs.pods) < int(rs.replicas):
			rs.pods = append(rs.pods, false)
		case len(rs.pods) > int(rs.replicas):
			slices.SortFunc(rs.pods, func(a, b bool) int { // not ready ones go first
				switch {
				case a == b:
					return 0
				case a:
					return -1
				}
				return 1
			})
			rs.pods = rs.pods[:len(rs.pods)-1]
		}
		for i := range rs.pods {
			if w.crashing[rs.hash] && rs.owner == OwnerCanary {
				rs.pods[i] = false
			} else if !rs.pods[i] && w.rand.IntN(3) > 0 {
				rs.pods[i] = true
			}
		}
	}
}

func (w *world) endpoints() {
	read := func(hash string) map[string]int32 {
		ready := map[string]int32{}
		for _, rs := range w.sets {
			if n := rs.readyPods(); n > 0 && (hash == "" || hash == rs.hash) {
				ready[rs.hash] += n
			}
		}
		return ready
	}
	w.service.ready = read(w.service.hash)
	if w.twinThere == Ours {
		w.twin.ready = read(w.twin.hash)
	}
}

// gateway makes the proxies serve the route, and reports it.
func (w *world) gateway() {
	if w.stuck {
		if w.stuckSince.IsZero() {
			w.stuckSince = w.now
		}
		w.overdue = w.overdue || w.now.Sub(w.stuckSince) > 9*time.Minute
		return
	}
	w.stuckSince, w.overdue = time.Time{}, false
	if w.route == nil {
		w.proxies = proxies{}
		return
	}
	w.proxies = proxies{there: true, percent: max(w.route.percent, 0)}
	w.route.programmed = w.route.generation
}

// pass is one run of the operator's reconciler. With crash >= 0 it dies after
// that many writes; with fail >= 0 that action fails.
func (w *world) pass(crash, fail int) Decision {
	seen := w.observe()
	var depVersion, routeVersion int
	if w.dep != nil {
		depVersion = w.dep.version
	}
	if w.route != nil {
		routeVersion = w.route.version
	}
	version := w.version
	d := Decide(Input{Canary: w.canary, Seen: seen, Now: w.now})
	w.logf("pass: %s/%s weight %d urgent=%v %s after=%s", d.Status.Phase, stageOf(d.Status), d.Status.Weight, d.Urgent, names(d.Actions), d.After)
	writes := 0
	apply := func() bool {
		for i, a := range d.Actions {
			if writes == crash {
				w.logf("  crash")
				return false
			}
			writes++
			if i == fail || w.act(a, depVersion, routeVersion) != nil {
				w.logf("  %T failed", a)
				return false
			}
			if w.dep != nil {
				switch a.(type) {
				case EnsureHoldLabel, EnsureHoldLabelRemoved, ClearBypass, EnsureUnpaused:
					depVersion = w.dep.version
				}
			}
		}
		return true
	}
	record := func() bool {
		if writes == crash || w.version != version {
			w.logf("  status not recorded")
			return false
		}
		writes++
		w.canary.Status = d.Status
		w.version++
		return true
	}
	if w.gone {
		return d
	}
	if d.Urgent {
		apply() // even where it failed, the status is recorded: it is asked for again
		if writes != crash {
			record()
		}
		return d
	}
	if record() {
		apply()
	}
	return d
}

func names(actions []Action) string {
	var out []string
	for _, a := range actions {
		out = append(out, strings.TrimPrefix(fmt.Sprintf("%T%+v", a, a), "rollout."))
	}
	return strings.Join(out, " ")
}

func stageOf(s v1beta1.CanaryStatus) v1beta1.PromotionStage {
	if s.Release == nil {
		return ""
	}
	return s.Release.Promotion
}

// update is what a user does to the Deployment; the admission policy has its say.
func (w *world) update(change func(*deployment)) {
	if w.dep == nil {
		return
	}
	was, will := *w.dep, *w.dep
	change(&will)
	watched := (was.label != "" || will.label != "") && !will.bypass
	usersPause := was.paused && !was.held
	if watched && (will.template != was.template && !usersPause || usersPause && !will.paused || was.held && (!will.paused || !will.held)) {
		will.paused, will.held = true, true
		if will.label == "" {
			will.label = was.label
		}
	}
	will.version++
	*w.dep = will
}
