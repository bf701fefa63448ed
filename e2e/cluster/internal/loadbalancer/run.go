// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Run watches Services and keeps their load balancer addresses until ctx ends.
func Run(ctx context.Context, config *rest.Config, within netip.Prefix) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	return run(ctx, client, within)
}

func run(ctx context.Context, client kubernetes.Interface, within netip.Prefix) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services()
	dirty := make(chan struct{}, 1)
	mark := func() {
		select {
		case dirty <- struct{}{}:
		default:
		}
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { mark() },
		UpdateFunc: func(any, any) { mark() },
		DeleteFunc: func(any) { mark() },
	})
	if err != nil {
		return fmt.Errorf("watching Services: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced) {
		return ctx.Err()
	}
	said := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		}
		if err := sync(ctx, client, services.Lister(), within, said); err != nil {
			log.Print(err)
			time.AfterFunc(time.Second, mark)
		}
	}
}

// sync makes each Service's status show the address that Assign gives it.
func sync(ctx context.Context, client kubernetes.Interface, lister corelisters.ServiceLister, within netip.Prefix, said map[string]string) error {
	all, err := lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	var wants []Want
	for _, s := range all {
		if ours(s) {
			wants = append(wants, Want{Key: s.Namespace + "/" + s.Name, Has: shown(s), Asks: address(s.Spec.LoadBalancerIP)})
		}
	}
	grants := Assign(within, wants)
	var errs []error
	for _, s := range all {
		key := s.Namespace + "/" + s.Name
		grant := grants[key] // zero for a Service that is not ours: it loses its address
		if s.Spec.LoadBalancerClass != nil || shown(s) == grant.IP {
			continue
		}
		next := s.DeepCopy()
		next.Status.LoadBalancer.Ingress = nil
		if grant.IP.IsValid() {
			mode := corev1.LoadBalancerIPModeVIP
			next.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: grant.IP.String(), IPMode: &mode}}
		}
		_, err := client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: "headgate-load-balancer"})
		switch {
		case err == nil:
			log.Printf("%s: %s", key, describe(grant))
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			// A newer state of the Service is on its way and marks us dirty.
		default:
			errs = append(errs, fmt.Errorf("giving %s its address: %w", key, err))
		}
	}
	for key, grant := range grants {
		if grant.Why != "" && said[key] != grant.Why {
			log.Printf("%s: %s", key, grant.Why)
		}
		said[key] = grant.Why
	}
	return errors.Join(errs...)
}

// ours reports whether a Service wants an address from us: other classes have
// their own provider (KEP-1959).
func ours(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

func shown(s *corev1.Service) netip.Addr {
	for _, in := range s.Status.LoadBalancer.Ingress {
		return address(in.IP)
	}
	return netip.Addr{}
}

func address(s string) netip.Addr {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

func describe(g Grant) string {
	if g.IP.IsValid() {
		return g.IP.String()
	}
	return "no address any more"
}
