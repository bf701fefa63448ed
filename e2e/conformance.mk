# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The conformance suite of the Gateway API, unmodified, on the cluster of
# KUBECONFIG or on this machine's node. RUN picks tests by a regular expression;
# a report is written only when all of them run, and stays as the suite wrote it.

RUN ?=
CONFORMANCE_CHANNEL ?= standard
# Kubernetes looks at a namespace again after half of its pods' grace period, which is more than the suite waits by default.
# An address that the cluster's load balancer gives when a Gateway asks for it, and one that it does not. These are the node's.
CONFORMANCE_USABLE_ADDRESS ?= 10.250.0.250
CONFORMANCE_UNUSABLE_ADDRESS ?= 192.0.2.1
CONFORMANCE_FLAGS ?= -timeout-config-overrides DeleteTimeout:120
CONFORMANCE_REPORT ?= $(CURDIR)/docs/conformance/$(CONFORMANCE_CHANNEL)-v1.7.0-report.yaml

.PHONY: conformance
conformance: ## Run the Gateway API's conformance suite; RUN=regex picks tests
	kubeconfig=$$(go run ./e2e/ground -channel $(CONFORMANCE_CHANNEL) echo-basic); \
	mkdir -p $(dir $(CONFORMANCE_REPORT)); \
	KUBECONFIG=$$kubeconfig go test -C e2e/conformance -count=1 -v -timeout 60m -run '^TestConformance$$$(if $(RUN),/$(RUN))' . \
	-args -gateway-class headgate -usable-address $(CONFORMANCE_USABLE_ADDRESS) -unusable-address $(CONFORMANCE_UNUSABLE_ADDRESS) \
	$(if $(RUN),,-report-output $(CONFORMANCE_REPORT) -organization Headgate -project headgate -url https://headgate.dev \
	-version $(VERSION) -contact https://headgate.dev) $(CONFORMANCE_FLAGS)
