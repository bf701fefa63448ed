# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The conformance suite of the Gateway API, unmodified, on the cluster of
# KUBECONFIG or on this machine's node. Whatever runs, a test that passed before
# (e2e/conformance/testdata) must pass again.

RUN ?=
# standard or experimental; empty: for RUN experimental, else both, one after the other.
CONFORMANCE_CHANNEL ?=
# An address that the cluster's load balancer gives when a Gateway asks for it, and one that it does not. These are the node's.
CONFORMANCE_USABLE_ADDRESS ?= 10.250.0.250
CONFORMANCE_UNUSABLE_ADDRESS ?= 192.0.2.1
# Kubernetes looks at a namespace again after half of its pods' grace period, which is more than the suite waits by default.
CONFORMANCE_FLAGS ?= -timeout-config-overrides DeleteTimeout:120
# -v shows what the suite says of each test.
CONFORMANCE_VERBOSE ?= -v

# A quick run: every kind that Headgate serves, and what its releases stand on.
export CONFORMANCE_CI := HTTPRouteSimpleSameNamespace|HTTPRouteCrossNamespace|HTTPRouteMatching|HTTPRouteWeight|HTTPRouteRequestMirror|$\
HTTPRouteHTTPSListener|HTTPRouteInvalidReferenceGrant|HTTPRouteObservedGenerationBump|GatewayInvalidRouteKind|GatewayModifyListeners|GatewayStaticAddresses|$\
GRPCRouteWeight|GRPCExactMethodMatching|TLSRouteSimpleSameNamespace|TLSRouteTerminateSimpleSameNamespace|TCPRouteWeightedRouting|UDPRoute|UDPRouteWeightedRouting|$\
ListenerSetHTTPRouting|ListenerSetHostnameConflict|BackendTLSPolicy

.PHONY: conformance conformance-ci conformance-standard conformance-experimental

conformance: ## Run the Gateway API's conformance suite, both channels; RUN=regex picks tests
	@for channel in $(or $(CONFORMANCE_CHANNEL),$(if $(RUN),experimental,standard experimental)); do \
	$(MAKE) conformance-$$channel RUN='$(RUN)'; done

conformance-ci: ## Run the few minutes of the conformance suite that cover every kind
	@CONFORMANCE_CI='$(CONFORMANCE_CI)' go test -C e2e/conformance -count=1 -run 'WhatWasLost|QuickList|Baselines' .
	@$(MAKE) conformance-experimental RUN='^($(CONFORMANCE_CI))$$$$' CONFORMANCE_VERBOSE=

# Reports are written only when all tests run, and stay as the suite wrote them.
conformance-standard conformance-experimental: conformance-%:
	kubeconfig=$$(go run ./e2e/ground -channel $* -exact echo-basic); \
	KUBECONFIG=$$kubeconfig go test -C e2e/conformance -count=1 $(CONFORMANCE_VERBOSE) -timeout 60m -run '^TestConformance$$$(if $(RUN),/($(RUN)))' . \
	-args -gateway-class headgate -baseline $(CURDIR)/e2e/conformance/testdata/$*.txt $(if $(RUN),,-baseline-update) \
	-usable-address $(CONFORMANCE_USABLE_ADDRESS) -unusable-address $(CONFORMANCE_UNUSABLE_ADDRESS) \
	$(if $(RUN),,-report-output $(CURDIR)/docs/conformance/$*-v1.7.0-report.yaml -organization Headgate -project headgate -url https://headgate.dev \
	-version $(VERSION) -contact https://headgate.dev) $(CONFORMANCE_FLAGS)
