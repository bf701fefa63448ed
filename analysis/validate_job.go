// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// JobSpec reads the spec of a Job, which the schema of the API leaves open. A field that
// does not exist is an error. The error is a sentence that says what to write instead.
func JobSpec(j *v1beta1.JobSource) (batchv1.JobSpec, error) {
	var spec batchv1.JobSpec
	d := json.NewDecoder(bytes.NewReader(j.Spec.Raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return spec, fmt.Errorf("job.spec is not the spec of a batch/v1 Job (%s): write job: {spec: {template: {spec: {containers: […]}}}}",
			strings.TrimPrefix(err.Error(), "json: "))
	}
	return spec, nil
}

func validateJob(j *v1beta1.JobSource) error {
	spec, err := JobSpec(j)
	switch {
	case err != nil:
		return err
	case len(spec.Template.Spec.Containers) == 0:
		return fmt.Errorf("job.spec.template.spec has no containers: write the one that tests the canary")
	case spec.Template.Spec.RestartPolicy == corev1.RestartPolicyAlways:
		return fmt.Errorf("job.spec.template.spec.restartPolicy is Always, with which a Job never ends: write Never or OnFailure")
	case spec.Suspend != nil && *spec.Suspend:
		return fmt.Errorf("job.spec.suspend is true, with which a Job never starts: remove it")
	case spec.ManagedBy != nil:
		return fmt.Errorf("job.spec.managedBy gives the Job to another controller: remove it")
	case spec.ManualSelector != nil || spec.Selector != nil:
		return fmt.Errorf("job.spec has a selector of its own, which could find other pods: remove selector and manualSelector")
	}
	return nil
}
