// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"headgate.dev/headgate/dataplane/pki"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func open(t *testing.T, c client.Client, now func() time.Time) *Keeper {
	t.Helper()
	k, err := Open(context.Background(), Options{
		Client: c, Namespace: "headgate-system", ServerNames: []string{"headgate-xds.headgate-system.svc"},
		Now: now, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEveryReplicaUsesTheSameAuthority(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	now := func() time.Time { return start }
	first, second := open(t, c, now), open(t, c, now)
	if !bytes.Equal(first.Authority().Cert, second.Authority().Cert) {
		t.Error("the second replica made its own authority")
	}
	if id := second.Identity(); !pki.SignedBy(id.Cert, first.Authority().Cert) {
		t.Error("the second replica's certificate is not signed by the first one's authority")
	}
}

func TestTheReplicaThatLosesTheRaceUsesTheWinnersAuthority(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	now := func() time.Time { return start }
	winner := open(t, c, now)
	gets := 0
	loser := open(t, interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if gets++; gets == 1 {
				return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
			}
			return w.Get(ctx, key, o, opts...)
		},
	}), now)
	if !bytes.Equal(winner.Authority().Cert, loser.Authority().Cert) {
		t.Error("the loser does not use the winner's authority")
	}
}

func TestTheServerCertificateIsRenewedAfterTwoThirdsOfItsLife(t *testing.T) {
	at := start
	k := open(t, fake.NewClientBuilder().Build(), func() time.Time { return at })
	first := k.Identity()
	at = start.Add(pki.LeafLifetime / 2)
	if !bytes.Equal(k.Identity().Cert, first.Cert) {
		t.Error("renewed before two thirds of its life")
	}
	at = start.Add(pki.LeafLifetime * 3 / 4)
	renewed := k.Identity()
	if bytes.Equal(renewed.Cert, first.Cert) {
		t.Fatal("not renewed after two thirds of its life")
	}
	if expiry, err := pki.Expiry(renewed.Cert); err != nil || !expiry.After(at.Add(pki.LeafLifetime*9/10)) {
		t.Errorf("the renewed certificate ends at %v (%v)", expiry, err)
	}
}

func TestASecretThatIsNoAuthoritySaysWhatToDo(t *testing.T) {
	broken := &corev1.Secret{Data: map[string][]byte{corev1.TLSCertKey: []byte("x"), corev1.TLSPrivateKeyKey: []byte("y")}}
	broken.Namespace, broken.Name = "headgate-system", SecretName
	_, err := Open(context.Background(), Options{
		Client: fake.NewClientBuilder().WithObjects(broken).Build(), Namespace: "headgate-system",
		Now: func() time.Time { return start }, Rand: rand.Reader,
	})
	if err == nil || !strings.Contains(err.Error(), "delete the Secret") {
		t.Errorf("Open() = %v, want an error that says to delete the Secret", err)
	}
}
