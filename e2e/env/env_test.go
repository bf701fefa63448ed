// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDecode(t *testing.T) {
	tests := []struct {
		name, yaml, err string
		want            int
	}{
		{"two documents", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n", "", 2},
		{"empty documents and comments are skipped", "---\n# nothing\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n---\n", "", 1},
		{"a document without name", "apiVersion: v1\nkind: Secret\n", "document 1: write apiVersion, kind and metadata.name", 0},
		{"broken YAML says which document", "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n---\na: [", "document 2", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(tt.yaml)
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
				t.Fatalf("Decode = %v, want error %q", err, tt.err)
			}
			if len(got) != tt.want {
				t.Errorf("Decode = %d objects, want %d", len(got), tt.want)
			}
		})
	}
}

func TestAppManifest(t *testing.T) {
	a := App{Name: "shop", Replicas: 3, Version: "1.0", Env: map[string]string{"LATENCY": "5ms", "ERROR_RATE": "0.5"}, Service: "LoadBalancer"}
	objects, err := Decode(a.Manifest("example.com/app:1"))
	if err != nil || len(objects) != 2 {
		t.Fatal(objects, err)
	}
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[0].Object, &d, true); err != nil {
		t.Fatal(err)
	}
	container := d.Spec.Template.Spec.Containers[0]
	env := map[string]string{}
	for _, e := range container.Env {
		env[e.Name] = e.Value
	}
	// "1.0" must stay a string: YAML would read a number.
	if *d.Spec.Replicas != 3 || container.Image != "example.com/app:1" || env["VERSION"] != "1.0" || env["LATENCY"] != "5ms" || env["ERROR_RATE"] != "0.5" {
		t.Errorf("replicas %d, image %s, env %v", *d.Spec.Replicas, container.Image, env)
	}
	var s corev1.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[1].Object, &s, true); err != nil {
		t.Fatal(err)
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.Selector["app"] != d.Spec.Template.Labels["app"] {
		t.Errorf("service %+v", s.Spec)
	}
}

func TestSplitRef(t *testing.T) {
	for ref, want := range map[string][2]string{
		"headgate.dev/headgate:dev-1": {"headgate.dev/headgate", "dev-1"},
		"localhost:5000/headgate:dev": {"localhost:5000/headgate", "dev"},
		"localhost:5000/headgate":     {"localhost:5000/headgate", ""},
		"headgate":                    {"headgate", ""},
	} {
		if repository, tag := splitRef(ref); repository != want[0] || tag != want[1] {
			t.Errorf("splitRef(%s) = %q, %q", ref, repository, tag)
		}
	}
}

func TestRolledOut(t *testing.T) {
	three := int32(3)
	done := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
	tests := []struct {
		name   string
		change func(*appsv1.DeploymentStatus)
		want   bool
	}{
		{"all replicas new and available", func(*appsv1.DeploymentStatus) {}, true},
		{"the controller has not seen the change", func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 1 }, false},
		{"an old pod is still there", func(s *appsv1.DeploymentStatus) { s.Replicas = 4 }, false},
		{"a new pod is missing", func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 2 }, false},
		{"a pod is not available", func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 2 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: &three}, Status: done}
			tt.change(&d.Status)
			if got := rolledOut(d); got != tt.want {
				t.Errorf("rolledOut = %v", got)
			}
		})
	}
}

func TestWait(t *testing.T) {
	c := &Cluster{Out: io.Discard}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "x")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("no"))

	t.Run("a time-out says what was waited for and what was seen last", func(t *testing.T) {
		err := c.Wait(t.Context(), "three pods", 250*time.Millisecond, func(context.Context) (bool, string, error) { return false, "two pods", nil })
		if err == nil || !strings.Contains(err.Error(), "for three pods; last seen: two pods") {
			t.Errorf("Wait = %v", err)
		}
	})
	t.Run("an object that is not there yet is waited for", func(t *testing.T) {
		calls := 0
		err := c.Wait(t.Context(), "x", 5*time.Second, func(context.Context) (bool, string, error) {
			if calls++; calls < 3 {
				return false, "", notFound
			}
			return true, "", nil
		})
		if err != nil || calls != 3 {
			t.Errorf("Wait = %v after %d calls", err, calls)
		}
	})
	t.Run("an error that stays is told at once", func(t *testing.T) {
		begin := time.Now()
		err := c.Wait(t.Context(), "x", time.Minute, func(context.Context) (bool, string, error) { return false, "", forbidden })
		if !apierrors.IsForbidden(err) || time.Since(begin) > 10*time.Second {
			t.Errorf("Wait = %v after %s", err, time.Since(begin))
		}
	})
}
