// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Channels of the Gateway API's CRDs; experimental is standard and more.
const (
	Standard     = "standard"
	Experimental = "experimental"
)

// Annotations of the Gateway API's CRDs.
const (
	channelAnnotation = "gateway.networking.k8s.io/channel"
	versionAnnotation = "gateway.networking.k8s.io/bundle-version"
)

// InstallGatewayAPI applies the CRDs of the Gateway API version that go.mod
// names, of the channel Standard or Experimental. When the cluster has them, or
// has Experimental where Standard is wanted, nothing is done.
func (c *Cluster) InstallGatewayAPI(ctx context.Context, channel string) error {
	objects, err := c.gatewayAPI(ctx, channel)
	if err != nil {
		return err
	}
	has, err := c.gatewayAPIChannel(ctx, objects[0].GetAnnotations()[versionAnnotation])
	if err != nil {
		return err
	}
	if has == channel || has == Experimental {
		return nil
	}
	if has == Standard && c.Local {
		if err := c.allowExperimental(ctx); err != nil {
			return err
		}
	}
	return c.applyGatewayAPI(ctx, objects)
}

func (c *Cluster) applyGatewayAPI(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if err := c.applyCRD(ctx, object); err != nil {
			return err
		}
	}
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := c.waitServed(ctx, object.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// SwitchGatewayAPI makes the CRDs those of exactly one channel. The way from
// Experimental to Standard drops fields and kinds, with what is stored in them: it is
// gone on our own node only.
func (c *Cluster) SwitchGatewayAPI(ctx context.Context, channel string) error {
	objects, err := c.gatewayAPI(ctx, channel)
	if err != nil {
		return err
	}
	has, err := c.gatewayAPIChannel(ctx, objects[0].GetAnnotations()[versionAnnotation])
	if err != nil {
		return err
	}
	if has != Experimental || channel != Standard {
		return c.InstallGatewayAPI(ctx, channel)
	}
	if !c.Local {
		return fmt.Errorf("the cluster has the CRDs of channel %s: run with that channel, or install %s ones, which loses what is stored in their fields", has, channel)
	}
	var crds apiextensionsv1.CustomResourceDefinitionList
	if err := c.Client.List(ctx, &crds); err != nil {
		return fmt.Errorf("listing CRDs: %w", err)
	}
	for _, crd := range crds.Items {
		if crd.Spec.Group != experimentalGroup {
			continue
		}
		if err := client.IgnoreNotFound(c.Client.Delete(ctx, &crd)); err != nil {
			return fmt.Errorf("deleting CRD %s: %w", crd.Name, err)
		}
	}
	return c.applyGatewayAPI(ctx, objects)
}

// experimentalGroup has kinds that are in channel Experimental only.
const experimentalGroup = "gateway.networking.x-k8s.io"

// gatewayAPI reads the objects of a channel out of the Gateway API's Go module.
func (c *Cluster) gatewayAPI(ctx context.Context, channel string) ([]*unstructured.Unstructured, error) {
	if channel != Standard && channel != Experimental {
		return nil, fmt.Errorf("no Gateway API channel %q; write %s or %s", channel, Standard, Experimental)
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	cmd.Dir = c.Repo
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the Gateway API module: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "config", "crd", channel, "gateway.networking.*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fmt.Errorf("the Gateway API module has no CRDs of channel %s", channel), err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := Decode(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

// gatewayAPIChannel returns which channel of this version the cluster has, "" for
// another version or none. The CRD of Gateways stands for all.
func (c *Cluster) gatewayAPIChannel(ctx context.Context, version string) (string, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	err := c.Client.Get(ctx, client.ObjectKey{Name: "gateways.gateway.networking.k8s.io"}, &crd)
	if err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if crd.Annotations[versionAnnotation] != version {
		return "", nil
	}
	return crd.Annotations[channelAnnotation], nil
}

// allowExperimental removes the policy that comes with the standard channel and
// forbids the step to experimental. Only for our own node: elsewhere it is the
// owner's decision, and the policy's message says what to do.
func (c *Cluster) allowExperimental(ctx context.Context) error {
	name := metav1.ObjectMeta{Name: "safe-upgrades.gateway.networking.k8s.io"}
	return errors.Join(
		client.IgnoreNotFound(c.Client.Delete(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: name})),
		client.IgnoreNotFound(c.Client.Delete(ctx, &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: name})),
	)
}

// applyCRD applies one object. On our own node a refusal is tried again for a
// while: the API server goes on enforcing a deleted policy for a moment.
func (c *Cluster) applyCRD(ctx context.Context, object *unstructured.Unstructured) error {
	return c.Wait(ctx, object.GetName()+" to be accepted", 15*time.Second, func(ctx context.Context) (bool, string, error) {
		err := c.applyObjects(ctx, []*unstructured.Unstructured{object})
		if c.Local && (apierrors.IsForbidden(err) || apierrors.IsInvalid(err)) {
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
}

// waitServed waits until the API server serves the kind of a CRD.
func (c *Cluster) waitServed(ctx context.Context, crd string) error {
	return c.Wait(ctx, "CRD "+crd+" to be served", 30*time.Second, func(ctx context.Context) (bool, string, error) {
		var found apiextensionsv1.CustomResourceDefinition
		if err := c.Client.Get(ctx, client.ObjectKey{Name: crd}, &found); err != nil {
			return false, "", err
		}
		seen := "no conditions"
		for _, condition := range found.Status.Conditions {
			if condition.Type == apiextensionsv1.Established {
				seen = condition.Reason + ": " + condition.Message
				if condition.Status == apiextensionsv1.ConditionTrue {
					return true, seen, nil
				}
			}
		}
		return false, seen, nil
	})
}
