// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch

// pods watches the pods that XBackends in use select, and no others: one watch each,
// with the labels of its selector.
type pods struct {
	client client.WithWatch
	// changed carries XBackends whose pods changed to the reconciler of endpoints.
	changed chan event.GenericEvent

	// started is closed when ctx is set, which ends all watches.
	started chan struct{}
	ctx     context.Context

	mu   sync.Mutex
	sets map[types.NamespacedName]*podSet
}

// podSet is the pods of one XBackend.
type podSet struct {
	selector map[string]string
	store    toolscache.Store
	synced   func() bool
	stop     context.CancelFunc
}

func newPods(c client.WithWatch) *pods {
	return &pods{
		client: c, changed: make(chan event.GenericEvent, 64), started: make(chan struct{}),
		sets: map[types.NamespacedName]*podSet{},
	}
}

// Start lets the watches run until ctx ends.
func (p *pods) Start(ctx context.Context) error {
	p.ctx = ctx
	close(p.started)
	<-ctx.Done()
	return nil
}

func (p *pods) source() source.Source {
	return source.Channel(p.changed, &handler.EnqueueRequestForObject{})
}

// of gives the pods of an XBackend, which are watched from now on. Known is false until
// the first list of them has come; then the reconciler is woken. They are the watch's own and
// must not be changed.
func (p *pods) of(ctx context.Context, key types.NamespacedName, selector map[string]string) (list []*corev1.Pod, known bool) {
	select {
	case <-p.started:
	case <-ctx.Done():
		return nil, false
	}
	p.mu.Lock()
	set := p.sets[key]
	if set != nil && !maps.Equal(set.selector, selector) {
		set.stop()
		set = nil
	}
	if set == nil {
		set = p.watch(key, selector)
		p.sets[key] = set
	}
	p.mu.Unlock()
	if !set.synced() {
		return nil, false
	}
	for _, o := range set.store.List() {
		if pod, ok := o.(*corev1.Pod); ok {
			list = append(list, pod)
		}
	}
	return list, true
}

// forget ends the watch of an XBackend that nothing uses.
func (p *pods) forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if set := p.sets[key]; set != nil {
		set.stop()
		delete(p.sets, key)
	}
}

func (p *pods) watch(key types.NamespacedName, selector map[string]string) *podSet {
	ctx, stop := context.WithCancel(p.ctx)
	options := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{
			Namespace: key.Namespace, LabelSelector: labels.SelectorFromSet(selector),
			Raw: &raw, Limit: raw.Limit, Continue: raw.Continue,
		}
	}
	wake := func() {
		news := &gwxv1alpha1.XBackend{}
		news.Namespace, news.Name = key.Namespace, key.Name
		select {
		case p.changed <- event.GenericEvent{Object: news}:
		case <-ctx.Done():
		}
	}
	store, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: &toolscache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
				list := &corev1.PodList{}
				return list, p.client.List(ctx, list, options(raw))
			},
			WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (apiwatch.Interface, error) {
				return p.client.Watch(ctx, &corev1.PodList{}, options(raw))
			},
		},
		ObjectType: &corev1.Pod{},
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
		},
		Transform: slim,
	})
	set := &podSet{selector: maps.Clone(selector), store: store, synced: informer.HasSynced, stop: stop}
	go informer.RunWithContext(ctx)
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			wake() // also when there are none
		}
	}()
	return set
}

// slim leaves of a pod what its endpoint depends on.
func slim(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	out := &corev1.Pod{Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, Conditions: pod.Status.Conditions}}
	out.Namespace, out.Name, out.UID = pod.Namespace, pod.Name, pod.UID
	out.ResourceVersion, out.DeletionTimestamp = pod.ResourceVersion, pod.DeletionTimestamp
	return out, nil
}
