// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// listWatcher is what a watch of one object needs.
type listWatcher interface {
	List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error
	Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (apiwatch.Interface, error)
}

// trustBundles reads ClusterTrustBundles as v1, from clusters that serve only v1beta1 too; the two
// differ in nothing but their name. Each list asks for v1 first, so that an upgrade of the
// cluster is noticed with the next.
type trustBundles struct{ from listWatcher }

// List fills a list of v1.
func (t trustBundles) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := t.from.List(ctx, list, opts...)
	if !unserved(err) {
		return err
	}
	into, ok := list.(*certificatesv1.ClusterTrustBundleList)
	if !ok {
		return fmt.Errorf("%T is not a list of ClusterTrustBundles", list)
	}
	beta := &certificatesv1beta1.ClusterTrustBundleList{}
	if err := t.from.List(ctx, beta, opts...); err != nil {
		return err
	}
	into.ListMeta, into.Items = beta.ListMeta, nil
	for i := range beta.Items {
		into.Items = append(into.Items, *asV1(&beta.Items[i]))
	}
	return nil
}

// Watch sends events of v1.
func (t trustBundles) Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (apiwatch.Interface, error) {
	w, err := t.from.Watch(ctx, list, opts...)
	if !unserved(err) {
		return w, err
	}
	w, err = t.from.Watch(ctx, &certificatesv1beta1.ClusterTrustBundleList{}, opts...)
	if err != nil {
		return nil, err
	}
	return apiwatch.Filter(w, func(e apiwatch.Event) (apiwatch.Event, bool) {
		if beta, ok := e.Object.(*certificatesv1beta1.ClusterTrustBundle); ok {
			e.Object = asV1(beta)
		}
		return e, true
	}), nil
}

func asV1(beta *certificatesv1beta1.ClusterTrustBundle) *certificatesv1.ClusterTrustBundle {
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: beta.ObjectMeta,
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: beta.Spec.SignerName, TrustBundle: beta.Spec.TrustBundle},
	}
}

// unserved tells whether the API server does not have the kind at all.
func unserved(err error) bool {
	return err != nil && (meta.IsNoMatchError(err) || apierrors.IsNotFound(err))
}
