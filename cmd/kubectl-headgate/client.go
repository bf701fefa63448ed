// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"headgate.dev/headgate/api/v1beta1"
)

const resource = "canaries"

// cluster is the API server, as far as this plugin uses it. Canaries are asked
// for by path, without discovery: one command, one request.
type cluster struct {
	namespace string
	config    *rest.Config
	canaries  rest.Interface
	core      kubernetes.Interface
	// externalNames is that of app.
	externalNames bool
}

func (a *app) connect() (*cluster, error) {
	loader := a.flags.ToRawKubeConfigLoader()
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config, err := a.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.UserAgent = "kubectl-headgate/" + version
	// One person's few requests need no limit; one in the client only blurs deadlines.
	config.QPS = -1
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	base := config
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &v1beta1.GroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	canaries, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return &cluster{namespace: namespace, config: base, canaries: canaries, core: core, externalNames: a.externalNames}, nil
}

func (c *cluster) get(ctx context.Context, name string) (*v1beta1.Canary, error) {
	canary := &v1beta1.Canary{}
	err := c.canaries.Get().Namespace(c.namespace).Resource(resource).Name(name).Do(ctx).Into(canary)
	return canary, c.explain(err, name)
}

// list returns the Canaries by namespace and name.
func (c *cluster) list(ctx context.Context, everywhere bool) (*v1beta1.CanaryList, error) {
	request := c.canaries.Get().Resource(resource)
	if !everywhere {
		request = request.Namespace(c.namespace)
	}
	list := &v1beta1.CanaryList{}
	if err := request.Do(ctx).Into(list); err != nil {
		return nil, c.explain(err, "")
	}
	slices.SortFunc(list.Items, func(a, b v1beta1.Canary) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return list, nil
}

// watch follows one Canary, or with an empty name the namespace or all of them.
func (c *cluster) watch(ctx context.Context, name string, everywhere bool, from string) (watch.Interface, error) {
	request := c.canaries.Get().Resource(resource)
	if !everywhere {
		request = request.Namespace(c.namespace)
	}
	options := metav1.ListOptions{Watch: true, ResourceVersion: from, AllowWatchBookmarks: true}
	if name != "" {
		options.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	}
	return request.VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
}

// annotate sets annotations of the Canary as it was read; somebody else's change
// in between is a conflict.
func (c *cluster) annotate(ctx context.Context, read *v1beta1.Canary, set map[string]any) (*v1beta1.Canary, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": read.ResourceVersion,
		"annotations":     set,
	}})
	if err != nil {
		return nil, err
	}
	canary := &v1beta1.Canary{}
	err = c.canaries.Patch(types.MergePatchType).Namespace(c.namespace).Resource(resource).Name(read.Name).
		Param("fieldManager", "kubectl-headgate").Body(patch).Do(ctx).Into(canary)
	return canary, c.explain(err, read.Name)
}

func (c *cluster) deployment(ctx context.Context, name string) (*appsv1.Deployment, error) {
	return c.core.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{})
}

// refusal is an event that says why a command was not carried out. A repeated
// event has a new version.
type refusal struct{ version, note string }

// refusals are those of a Canary; none when events may not be read.
func (c *cluster) refusals(ctx context.Context, name string) map[types.UID]refusal {
	list, err := c.core.EventsV1().Events(c.namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.AndSelectors(
			fields.OneTermEqualSelector("regarding.kind", "Canary"),
			fields.OneTermEqualSelector("regarding.name", name),
			fields.OneTermEqualSelector("reason", v1beta1.ReasonCommandRefused),
		).String(),
	})
	if err != nil {
		return nil
	}
	found := map[types.UID]refusal{}
	for _, e := range list.Items {
		found[e.UID] = refusal{e.ResourceVersion, e.Note}
	}
	return found
}

// whoami is the name the API server knows the caller by; empty when it does not say.
func (c *cluster) whoami(ctx context.Context) string {
	review, err := c.core.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return ""
	}
	return review.Status.UserInfo.Username
}

// explain says what a failed request means here.
func (c *cluster) explain(err error, name string) error {
	var status apierrors.APIStatus
	named := errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name == name
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err) && name != "" && named:
		return fmt.Errorf("there is no Canary %q in namespace %q; 'kubectl headgate status -A' lists all", name, c.namespace)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("this cluster does not know Canaries (%s): install Headgate's chart first", v1beta1.GroupVersion)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("not allowed: %w; the cluster's roles edit and view include Canaries", err)
	}
	return err
}

// completeNames offers the Canaries of the namespace.
func (a *app) completeNames(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := c.list(cmd.Context(), false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, canary := range list.Items {
		if strings.HasPrefix(canary.Name, typed) {
			names = append(names, canary.Name+"\t"+string(canary.Status.Phase))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
