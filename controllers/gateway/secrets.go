// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secrets reads the contents of the Secrets that are referred to and of no
// others: the cache knows only the metadata of Secrets, and says when one changed.
type secrets struct {
	cache  client.Reader
	direct client.Reader

	mu     sync.Mutex
	wanted map[types.NamespacedName]bool
	known  map[types.NamespacedName]*corev1.Secret
	late   *late[*corev1.Secret]
	// due is the time after which to read again what is gone, 0 for never.
	due time.Duration
}

func newSecrets(cache, direct client.Reader, now func() time.Time) *secrets {
	return &secrets{
		cache: cache, direct: direct, wanted: map[types.NamespacedName]bool{}, known: map[types.NamespacedName]*corev1.Secret{},
		late: newLate(direct, now, func() *corev1.Secret { return &corev1.Secret{} }),
	}
}

// wants tells whether a change of the Secret is news.
func (s *secrets) wants(key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted[key]
}

// read gives the Secrets that exist among the wanted ones. From now on their
// changes are news; this is said first, so that no change falls between.
func (s *secrets) read(ctx context.Context, wanted []types.NamespacedName) (map[types.NamespacedName]*corev1.Secret, error) {
	set := map[types.NamespacedName]bool{}
	for _, key := range wanted {
		set[key] = true
	}
	s.mu.Lock()
	s.wanted = set
	s.mu.Unlock()
	found, cached := map[types.NamespacedName]*corev1.Secret{}, map[types.NamespacedName]bool{}
	for _, key := range wanted {
		secret, err := s.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if cached[key] = secret != nil; !cached[key] {
			if secret, _, err = s.late.find(ctx, key); err != nil {
				return nil, err
			}
		}
		if secret != nil {
			found[key] = secret
		}
	}
	s.known = found
	s.due = s.late.settle(found, func(key types.NamespacedName) bool { return cached[key] })
	return found, nil
}

// get gives one Secret, or nil when there is none. An error is never mistaken
// for a Secret that is missing.
func (s *secrets) get(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	meta := metadata("v1", "Secret")
	if err := s.cache.Get(ctx, key, meta); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("looking for Secret %s: %w", key, err)
	}
	if known := s.known[key]; known != nil && known.UID == meta.UID && known.ResourceVersion == meta.ResourceVersion {
		return known, nil
	}
	secret := &corev1.Secret{}
	if err := s.direct.Get(ctx, key, secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return secret, nil
}
