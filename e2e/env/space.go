// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Space is a namespace to throw away.
type Space struct {
	*Cluster
	// Name is the name of the namespace.
	Name string
	// outside are objects without a namespace that go with it.
	outside []*unstructured.Unstructured
}

// NewSpace creates a namespace whose name starts with prefix.
func (c *Cluster) NewSpace(ctx context.Context, prefix string) (*Space, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-", Labels: map[string]string{"headgate.dev/e2e": "true"}}}
	if err := c.Client.Create(ctx, ns); err != nil {
		return nil, fmt.Errorf("creating a namespace: %w", err)
	}
	return &Space{Cluster: c, Name: ns.Name}, nil
}

// Close deletes the namespace and all that was applied through it. It does not
// wait for the end of the pods.
func (s *Space) Close(ctx context.Context) error {
	var errs []error
	for _, object := range s.outside {
		errs = append(errs, client.IgnoreNotFound(s.Client.Delete(ctx, object)))
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Name}}
	errs = append(errs, client.IgnoreNotFound(s.Client.Delete(ctx, ns)))
	return errors.Join(errs...)
}

// Apply applies YAML documents server-side. Namespaced objects without a
// namespace get that of the Space.
func (s *Space) Apply(ctx context.Context, documents string) error {
	objects, err := Decode(documents)
	if err != nil {
		return err
	}
	for _, object := range objects {
		namespaced, err := s.namespaced(ctx, object)
		if err != nil {
			return err
		}
		if !namespaced {
			s.outside = append(s.outside, object)
		} else if object.GetNamespace() == "" {
			object.SetNamespace(s.Name)
		}
	}
	return s.applyObjects(ctx, objects)
}

// Apply applies YAML documents server-side; they name their namespaces.
func (c *Cluster) Apply(ctx context.Context, documents string) error {
	objects, err := Decode(documents)
	if err != nil {
		return err
	}
	return c.applyObjects(ctx, objects)
}

func (c *Cluster) applyObjects(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		// A copy: the answer is written into what is sent.
		config := client.ApplyConfigurationFromUnstructured(object.DeepCopy())
		if err := c.Client.Apply(ctx, config, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

// namespaced waits for the kind to be served: a CRD may have been applied just now.
func (c *Cluster) namespaced(ctx context.Context, object *unstructured.Unstructured) (namespaced bool, err error) {
	err = c.Wait(ctx, "kind "+object.GetKind()+" to be served", 10*time.Second, func(context.Context) (bool, string, error) {
		var err error
		namespaced, err = c.Client.IsObjectNamespaced(object)
		if meta.IsNoMatchError(err) {
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
	return namespaced, err
}

// Delete deletes the objects that YAML documents name; those that are gone are
// no error.
func (s *Space) Delete(ctx context.Context, documents string) error {
	objects, err := Decode(documents)
	if err != nil {
		return err
	}
	for _, object := range objects {
		namespaced, err := s.namespaced(ctx, object)
		if err != nil {
			return err
		}
		if namespaced && object.GetNamespace() == "" {
			object.SetNamespace(s.Name)
		}
		if err := client.IgnoreNotFound(s.Client.Delete(ctx, object)); err != nil {
			return fmt.Errorf("deleting %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

// Decode reads YAML documents; empty ones are skipped.
func Decode(documents string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(documents)), 4096)
	for i := 1; ; i++ {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if object.GetKind() == "" || object.GetAPIVersion() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("document %d: write apiVersion, kind and metadata.name", i)
		}
		objects = append(objects, object)
	}
}

// Wait calls check until it says done, and fails at once when check returns an
// error. A time-out names what was waited for and what check saw last.
func (c *Cluster) Wait(ctx context.Context, what string, limit time.Duration, check func(context.Context) (done bool, seen string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin, last := time.Now(), "nothing"
	for {
		done, seen, err := check(ctx)
		switch {
		case err == nil && done:
			if took := time.Since(begin); took > time.Second {
				fmt.Fprintf(c.Out, "%s: %.1fs\n", what, took.Seconds())
			}
			return nil
		case err != nil && ctx.Err() == nil && !transient(err):
			return fmt.Errorf("waiting for %s: %w", what, err)
		case err != nil && ctx.Err() == nil:
			last = err.Error()
		case err == nil:
			last = seen
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s; last seen: %s", time.Since(begin).Round(100*time.Millisecond), what, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// transient reports whether an error can be gone at the next attempt.
func transient(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) ||
		apierrors.ReasonForError(err) == metav1.StatusReasonUnknown // the API server was not reached
}
