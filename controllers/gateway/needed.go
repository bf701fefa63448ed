// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"headgate.dev/headgate/dataplane/graph"
)

// settleTime bounds how long a pass waits for an object that it needs for the first time.
const settleTime = 10 * time.Second

// needed reads the objects that something refers to, and no others: each is watched alone,
// by its name, as the kubelet watches the Secrets of its pods. So the contents of
// all other Secrets never leave the API server, and the right to read can be
// given for single namespaces, or single names.
type needed struct {
	client client.WithWatch
	// changed is sent to when one of the objects changed.
	changed chan event.GenericEvent

	// started is closed when ctx is set, which ends all watches.
	started chan struct{}
	ctx     context.Context

	mu      sync.Mutex
	objects map[graph.Reference]*neededObject
}

func newNeeded(c client.WithWatch) *needed {
	return &needed{
		client: c, changed: make(chan event.GenericEvent, 1), started: make(chan struct{}),
		objects: map[graph.Reference]*neededObject{},
	}
}

// Start lets the watches run until ctx ends.
func (n *needed) Start(ctx context.Context) error {
	n.ctx = ctx
	close(n.started)
	<-ctx.Done()
	return nil
}

// source wakes the reconciler when an object changed, and calls noted before.
func (n *needed) source(noted func()) source.Source {
	return source.Channel(n.changed, waking(noted))
}

// want watches the objects, and those of earlier calls no longer. It waits until something
// is known about each. An object that could not be asked for is an error, and never
// mistaken for one that is missing; that it may not be read is known.
func (n *needed) want(ctx context.Context, refs []graph.Reference) error {
	select {
	case <-n.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.mu.Lock()
	wanted := map[graph.Reference]bool{}
	objects := make([]*neededObject, 0, len(refs))
	for _, ref := range refs {
		wanted[ref] = true
		if n.objects[ref] == nil {
			n.objects[ref] = n.watch(ref)
		}
		objects = append(objects, n.objects[ref])
	}
	for ref, o := range n.objects {
		if !wanted[ref] {
			o.stop()
			delete(n.objects, ref)
		}
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, o := range objects {
		if err := o.wait(ctx); err != nil {
			return fmt.Errorf("reading %s: %w", o.ref, err)
		}
	}
	return nil
}

// get gives a wanted object, or nil; denied tells that it may not be read. It is the
// watch's own and must not be changed.
func (n *needed) get(ref graph.Reference) (object client.Object, denied bool) {
	n.mu.Lock()
	o := n.objects[ref]
	n.mu.Unlock()
	if o == nil {
		return nil, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.present, o.present == nil && o.denied
}

// fill reads the wanted objects into the resources.
func (n *needed) fill(r *graph.Resources, refs []graph.Reference) {
	for _, ref := range refs {
		object, denied := n.get(ref)
		if denied {
			r.Denied[ref] = true
		}
		switch o := object.(type) {
		case *corev1.Secret:
			r.Secrets[ref.NamespacedName] = o
		case *corev1.ConfigMap:
			r.ConfigMaps[ref.NamespacedName] = o
		case *certificatesv1.ClusterTrustBundle:
			r.ClusterTrustBundles[ref.Name] = o
		}
	}
}

// secret is a wanted Secret, or nil.
func (n *needed) secret(ref graph.Reference) *corev1.Secret {
	object, _ := n.get(ref)
	secret, _ := object.(*corev1.Secret)
	return secret
}

// watch begins to watch an object.
func (n *needed) watch(ref graph.Reference) *neededObject {
	ctx, stop := context.WithCancel(n.ctx)
	o := &neededObject{ref: ref, changed: n.changed, stop: stop, settled: make(chan struct{})}
	var object client.Object
	var list client.ObjectList
	var from listWatcher = n.client
	switch ref.Kind {
	case graph.KindSecret:
		object, list = &corev1.Secret{}, &corev1.SecretList{}
	case graph.KindConfigMap:
		object, list = &corev1.ConfigMap{}, &corev1.ConfigMapList{}
	default:
		object, list = &certificatesv1.ClusterTrustBundle{}, &certificatesv1.ClusterTrustBundleList{}
		from = trustBundles{n.client}
	}
	options := func(raw metav1.ListOptions) []client.ListOption {
		return []client.ListOption{
			client.InNamespace(ref.Namespace), client.MatchingFields{"metadata.name": ref.Name}, &client.ListOptions{Raw: &raw, Limit: raw.Limit, Continue: raw.Continue},
		}
	}
	lists := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			into, _ := list.DeepCopyObject().(client.ObjectList)
			// Not from the API server's cache: what was created before the reference to it must be there.
			raw.ResourceVersion, raw.ResourceVersionMatch = "", ""
			err := from.List(ctx, into, options(raw)...)
			o.refused(err)
			return into, err
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (apiwatch.Interface, error) {
			w, err := from.Watch(ctx, list, options(raw)...)
			o.refused(err)
			return w, err
		},
	}
	reflector := toolscache.NewReflectorWithOptions(lists, object, o, toolscache.ReflectorOptions{Name: "needed", TypeDescription: ref.Kind})
	go reflector.RunWithContext(ctx)
	return o
}

// neededObject is one object, as the watch has it. It is what the reflector fills.
type neededObject struct {
	ref     graph.Reference
	changed chan<- event.GenericEvent
	stop    context.CancelFunc

	mu sync.Mutex
	// present is nil when there is none, or none is known.
	present client.Object
	denied  bool
	err     error
	// settled is closed when something is known.
	settled chan struct{}
	known   bool
}

// wait waits until something is known about the object.
func (o *neededObject) wait(ctx context.Context) error {
	select {
	case <-o.settled:
		return nil
	case <-ctx.Done():
		o.mu.Lock()
		defer o.mu.Unlock()
		return errors.Join(ctx.Err(), o.err)
	}
}

// refused takes an error of the API server. That the object may not be read, or that its
// kind is not served, is something known; all else is tried again. What was read
// before stays: a right that is taken away ends no service.
func (o *neededObject) refused(err error) {
	if err == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	if denied := apierrors.IsForbidden(err); denied || unserved(err) {
		o.settle(o.present, denied)
	}
}

// settle takes what is known, and tells when that is news. The lock is held.
func (o *neededObject) settle(present client.Object, denied bool) {
	news := o.known && (o.denied != denied || versionOf(o.present) != versionOf(present))
	o.present, o.denied = present, denied
	if !o.known {
		o.known = true
		close(o.settled)
	}
	if news {
		select {
		case o.changed <- event.GenericEvent{Object: &corev1.Secret{}}:
		default: // what waits stands for all that follow
		}
	}
}

func versionOf(o client.Object) string {
	if o == nil {
		return ""
	}
	return string(o.GetUID()) + "@" + o.GetResourceVersion()
}

func (o *neededObject) put(object any) error {
	present, ok := object.(client.Object)
	if !ok {
		return fmt.Errorf("%T is not an object", object)
	}
	present.SetManagedFields(nil)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settle(present, false)
	return nil
}

// Add, Update, Delete, Replace and Resync are the reflector's.
func (o *neededObject) Add(object any) error { return o.put(object) }

// Update takes the object's new form.
func (o *neededObject) Update(object any) error { return o.put(object) }

// Delete tells that the object is gone.
func (o *neededObject) Delete(any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settle(nil, false)
	return nil
}

// Replace takes all that there is: the object, or nothing.
func (o *neededObject) Replace(objects []any, _ string) error {
	if len(objects) == 0 {
		return o.Delete(nil)
	}
	return o.put(objects[0])
}

// Resync has nothing to do.
func (o *neededObject) Resync() error { return nil }
