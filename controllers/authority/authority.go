// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package authority keeps the certificate authority of the data plane in a
// Secret of Headgate's own namespace, and the control plane's certificate in
// memory. The Secret is what lets every replica, and the next version of
// Headgate, be trusted by proxies that are already running.
package authority

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/pki"
)

// SecretName is the Secret, of type kubernetes.io/tls, that holds the authority.
const SecretName = "headgate-authority"

// Options say where the authority is kept and what the control plane is called.
type Options struct {
	// Client reads and creates one Secret; it need not be cached.
	Client    client.Client
	Namespace string
	// ServerNames are the DNS names or IP addresses that proxies dial.
	ServerNames []string
	Now         func() time.Time
	Rand        io.Reader
}

// Keeper hands out the authority and the control plane's identity. It is safe
// for concurrent use.
type Keeper struct {
	options   Options
	authority pki.Pair

	mu     sync.Mutex
	server pki.Pair
}

// +kubebuilder:rbac:groups="",namespace=headgate-system,resources=secrets,verbs=get;create

// Open reads the authority, or creates it when there is none. Of two replicas
// that create it at once, one wins and both use what it wrote.
func Open(ctx context.Context, o Options) (*Keeper, error) {
	key := types.NamespacedName{Namespace: o.Namespace, Name: SecretName}
	secret := &corev1.Secret{}
	err := o.Client.Get(ctx, key, secret)
	if apierrors.IsNotFound(err) {
		if secret, err = create(ctx, o); apierrors.IsAlreadyExists(err) {
			secret = &corev1.Secret{}
			err = o.Client.Get(ctx, key, secret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the data plane's authority from Secret %s: %w", key, err)
	}
	k := &Keeper{options: o, authority: pki.Pair{Cert: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}}
	// Issuing proves that the pair can be used, at a time when a person is looking.
	if k.server, err = pki.NewServer(k.authority, o.ServerNames, o.Now(), o.Rand); err != nil {
		return nil, fmt.Errorf("issuing with the authority in Secret %s: %w; delete the Secret to have a new one made (proxies are restarted with it)", key, err)
	}
	return k, nil
}

func create(ctx context.Context, o Options) (*corev1.Secret, error) {
	pair, err := pki.NewAuthority(o.Now(), o.Rand)
	if err != nil {
		return nil, fmt.Errorf("making an authority: %w", err)
	}
	secret := &corev1.Secret{
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: pair.Cert, corev1.TLSPrivateKeyKey: pair.Key},
	}
	secret.Namespace, secret.Name = o.Namespace, SecretName
	secret.Labels = map[string]string{v1beta1.LabelManagedBy: v1beta1.ManagedBy}
	if err := o.Client.Create(ctx, secret); err != nil {
		return nil, err
	}
	return secret, nil
}

// Authority is the pair that signs the proxies' certificates.
func (k *Keeper) Authority() pki.Pair { return k.authority }

// Identity is the control plane's certificate, issued anew when it is due.
func (k *Keeper) Identity() pki.Identity {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.options.Now()
	if !now.Before(pki.RotationDue(k.server.Cert)) {
		// Issuing can only fail when there is no randomness; the certificate in
		// hand is good for another third of its life, and the next call tries again.
		if pair, err := pki.NewServer(k.authority, k.options.ServerNames, now, k.options.Rand); err == nil {
			k.server = pair
		}
	}
	return pki.Identity{Pair: k.server, CA: k.authority.Cert}
}
