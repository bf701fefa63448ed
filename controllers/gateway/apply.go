// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/xds"
)

// fieldOwner is who owns what we apply.
const fieldOwner = client.FieldOwner("headgate-gateway")

// proxies is what is known about the infrastructure of one Gateway.
type proxies struct {
	addresses []string
	ready     int32
	problem   string
	// complete is true when all that should run is ready, and is of the newest form.
	complete bool
	// wanted are the objects that were applied; nil when that failed.
	wanted map[objectKey]bool
}

type objectKey struct {
	kind string
	types.NamespacedName
}

// applied is what was applied last, and which versions of the object the cache
// may show without anybody having touched it since: the one it became and, for
// cacheDelay, the one it was.
type applied struct {
	gateway             types.NamespacedName
	hash, before, after string
	at                  time.Time
	// replicas is true when a number of replicas was applied.
	replicas bool
}

// cacheDelay is how long the cache may take to show what was applied.
const cacheDelay = 5 * time.Second

// +kubebuilder:rbac:groups="",resources=configmaps;serviceaccounts;services;secrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=apps,resources=deployments;daemonsets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch

// applyAll brings the infrastructure of every Gateway to what it should be, and
// tells after which time the next certificate is due.
func (r *reconciler) applyAll(ctx context.Context, g *graph.Graph, seen graph.Resources) (time.Duration, error) {
	var failures []error
	var next time.Duration
	for _, gw := range g.Gateways {
		if !gw.Valid || !slices.ContainsFunc(gw.Listeners, func(l *graph.Listener) bool { return l.Valid }) {
			continue // what is there stays
		}
		if ns := seen.Namespaces[gw.Key.Namespace]; gw.Source.DeletionTimestamp != nil || ns != nil && ns.DeletionTimestamp != nil {
			continue // it is on its way out; the API server refuses to create anything there
		}
		p, due, err := r.applyOne(ctx, gw, seen.Services)
		if err != nil {
			failures = append(failures, fmt.Errorf("setting up the proxies of Gateway %s: %w", gw.Key, err))
			p.problem = fmt.Sprintf("setting up the proxies failed: %v", err)
		}
		r.proxies[gw.Key] = p
		if due > 0 && (next == 0 || due < next) {
			next = due
		}
	}
	return next, errors.Join(failures...)
}

func (r *reconciler) applyOne(ctx context.Context, gw *graph.Gateway, services map[types.NamespacedName]*corev1.Service) (proxies, time.Duration, error) {
	name := types.NamespacedName{Namespace: gw.Key.Namespace, Name: infra.Name(gw.Key, string(gw.Source.Spec.GatewayClassName))}
	p := proxies{}
	identity, err := r.identity(ctx, gw, name)
	if err != nil {
		return p, 0, err
	}
	objects := infra.For(gw, r.infraOptions(gw, identity))
	if err := r.leaveReplicas(ctx, gw, objects.Deployment); err != nil {
		return p, 0, err
	}
	p.wanted = map[objectKey]bool{}
	for _, obj := range objects.All() {
		p.wanted[objectKey{kind: obj.GetObjectKind().GroupVersionKind().Kind, NamespacedName: name}] = true
		if err := r.apply(ctx, gw, obj); err != nil {
			return p, 0, err
		}
	}
	if p.ready, p.complete, err = r.ready(ctx, objects, name); err != nil {
		return p, 0, err
	}
	p.addresses = addresses(services[name])
	return p, max(time.Second, pki.RotationDue(identity.Cert).Sub(r.options.Now())), nil
}

// addresses are all that the load balancer assigned or, without one, those in the cluster.
func addresses(service *corev1.Service) []string {
	var out []string
	if service == nil {
		return nil
	}
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return service.Spec.ClusterIPs
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		switch {
		case ingress.IP != "":
			out = append(out, ingress.IP)
		case ingress.Hostname != "":
			out = append(out, ingress.Hostname)
		}
	}
	return out
}

func (r *reconciler) infraOptions(gw *graph.Gateway, identity pki.Identity) infra.Options {
	o, proxy := r.options, graph.MergeProxy(gw.Proxy, r.defaults)
	params := xds.BootstrapParams{
		Gateway: gw.Key, NodeID: gw.Key.String(),
		ControlPlaneHost: o.ControlPlaneHost, ControlPlanePort: o.ControlPlanePort, ControlPlaneName: o.ControlPlaneName,
		CertDir: infra.CertDir, ConfigDir: infra.ConfigDir, AdminPort: graph.AdminPort, StatsPort: graph.StatsPort, IPv6: o.IPv6,
		MaxHeapBytes: infra.MaxHeapBytes(proxy),
	}
	if proxy.MaxConnections != nil {
		params.MaxConnections = uint32(*proxy.MaxConnections)
	}
	if proxy.Bootstrap != nil {
		params.Extra = proxy.Bootstrap.Raw
	}
	return infra.Options{
		HeadgateImage: o.HeadgateImage, Proxy: proxy,
		Files:       xds.Files(params),
		Certificate: identity.Cert, Key: identity.Key, Authority: identity.CA,
	}
}

// identity is the certificate that a Gateway's proxies have, or a new one when
// there is none, it is due, or the authority is another.
func (r *reconciler) identity(ctx context.Context, gw *graph.Gateway, name types.NamespacedName) (pki.Identity, error) {
	authority := r.options.Authority()
	now := r.options.Now()
	good := func(i pki.Identity) bool {
		return pki.SignedBy(i.Cert, authority.Cert) && now.Before(pki.RotationDue(i.Cert)) && string(i.CA) == string(authority.Cert) && names(i.Cert, gw.Key)
	}
	if known := r.identities[gw.Key]; good(known) {
		return known, nil
	}
	if secret := r.needed.secret(ownSecret(name)); secret != nil && metav1.IsControlledBy(secret, gw.Source) {
		stored := pki.Identity{Pair: pki.Pair{Cert: secret.Data[infra.CertFile], Key: secret.Data[infra.KeyFile]}, CA: secret.Data[infra.AuthorityFile]}
		if good(stored) && len(stored.Key) > 0 {
			r.identities[gw.Key] = stored
			return stored, nil
		}
	}
	pair, err := pki.NewProxy(authority, gw.Key, now, r.options.Rand)
	if err != nil {
		return pki.Identity{}, fmt.Errorf("issuing the proxies' certificate: %w", err)
	}
	issued := pki.Identity{Pair: pair, CA: authority.Cert}
	r.identities[gw.Key] = issued
	return issued, nil
}

// names tells whether a certificate is a Gateway's.
func names(certPEM []byte, gateway types.NamespacedName) bool {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false
	}
	key, err := pki.GatewayOf(cert)
	return err == nil && key == gateway
}

// apply applies one object on the server's side, when it is not what was applied
// last or somebody touched it since. An object of the same name that is not the
// Gateway's own is left alone.
func (r *reconciler) apply(ctx context.Context, gw *graph.Gateway, desired client.Object) error {
	gvk := desired.GetObjectKind().GroupVersionKind()
	key := objectKey{kind: gvk.Kind, NamespacedName: client.ObjectKeyFromObject(desired)}
	data, err := json.Marshal(desired)
	if err != nil {
		return fmt.Errorf("writing %s %s as JSON: %w", key.kind, key.NamespacedName, err)
	}
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])

	last, known := r.applied[key]
	existing, err := r.existing(ctx, desired)
	if err != nil {
		return fmt.Errorf("looking for %s %s: %w", key.kind, key.NamespacedName, err)
	}
	seen := ""
	if existing != nil {
		if !metav1.IsControlledBy(existing, gw.Source) {
			return fmt.Errorf("%s %s exists and does not belong to the Gateway: delete or rename it", key.kind, key.NamespacedName)
		}
		seen = version(existing)
	}
	now := r.options.Now()
	if known && last.hash == hash && !lacksMetadata(existing, desired) && (seen == last.after || seen == last.before && now.Sub(last.at) < cacheDelay) {
		if seen == last.after {
			last.before = seen // the cache has caught up: the former version would be news
			r.applied[key] = last
		}
		return nil
	}
	u, err := unstructuredOf(desired)
	if err != nil {
		return fmt.Errorf("converting %s %s: %w", key.kind, key.NamespacedName, err)
	}
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %s: %w", key.kind, key.NamespacedName, err)
	}
	deployment, ok := desired.(*appsv1.Deployment)
	replicas := ok && deployment.Spec.Replicas != nil
	r.applied[key] = applied{gateway: gw.Key, hash: hash, before: seen, after: version(u), at: now, replicas: replicas}
	return nil
}

// lacksMetadata tells whether an object has lost labels or annotations that it should
// have: a change of them alone need not change the generation.
func lacksMetadata(existing, desired client.Object) bool {
	if existing == nil {
		return false
	}
	lacks := func(has, wants map[string]string) bool {
		for k, v := range wants {
			if got, ok := has[k]; !ok || got != v {
				return true
			}
		}
		return false
	}
	return lacks(existing.GetLabels(), desired.GetLabels()) || lacks(existing.GetAnnotations(), desired.GetAnnotations())
}

// existing gives the object that stands where desired should, or nil. Kinds that
// the cache keeps for other reasons are read from there; of the others it has the
// metadata of what is labelled as ours, so that the API server is asked whether
// something else has the name.
func (r *reconciler) existing(ctx context.Context, desired client.Object) (client.Object, error) {
	gvk := desired.GetObjectKind().GroupVersionKind()
	var obj client.Object = metadata(gvk.GroupVersion().String(), gvk.Kind)
	cached := false
	switch desired.(type) {
	case *appsv1.Deployment:
		obj, cached = &appsv1.Deployment{}, true
	case *corev1.Service:
		obj, cached = &corev1.Service{}, true
	case *appsv1.DaemonSet: // of these the cache has what is labelled as ours
		obj = &appsv1.DaemonSet{}
	case *autoscalingv2.HorizontalPodAutoscaler:
		obj, cached = &autoscalingv2.HorizontalPodAutoscaler{}, true
	case *corev1.Secret:
		if own := r.needed.secret(ownSecret(client.ObjectKeyFromObject(desired))); own != nil {
			return own, nil
		}
		err := r.direct.Get(ctx, client.ObjectKeyFromObject(desired), obj)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return obj, err
	}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(desired), obj, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) && !cached {
		err = r.direct.Get(ctx, client.ObjectKeyFromObject(desired), obj)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return obj, err
}

// version changes when the spec does; kinds without a generation change with every write.
func version(o client.Object) string {
	if g := o.GetGeneration(); g > 0 {
		return string(o.GetUID()) + "/" + strconv.FormatInt(g, 10)
	}
	return string(o.GetUID()) + "@" + o.GetResourceVersion()
}

// unstructuredOf gives an object with nothing in it that we do not mean to own.
func unstructuredOf(desired client.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	prune(content)
	return &unstructured.Unstructured{Object: content}, nil
}

// prune removes nulls and empty maps, which typed objects write for what is not set.
func prune(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			prune(v)
			if len(v) == 0 {
				delete(m, k)
			}
		case []any:
			for _, item := range v {
				if item, ok := item.(map[string]any); ok {
					prune(item)
				}
			}
		}
	}
}
