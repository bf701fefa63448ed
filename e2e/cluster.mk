# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The real Kubernetes node for tests and the demo; see `go run ./e2e/cluster`.

CLUSTER = go run ./e2e/cluster

.PHONY: cluster-up cluster-down cluster-clean cluster-images cluster-status

cluster-up: ## Bring up a Kubernetes node on this machine (root, Linux); quick when it is up
	$(CLUSTER) up

cluster-images: ## Build the images and load them into the node
	$(CLUSTER) images

cluster-status: ## Say what runs of the node
	$(CLUSTER) status

cluster-down: ## Stop the node and remove what it left on the machine
	$(CLUSTER) down

cluster-clean: ## Stop the node and delete its cache of programs and images
	$(CLUSTER) clean
