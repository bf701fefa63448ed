// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"net/netip"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func buildGateway(src *gwv1.Gateway, class *Class, refs references) *Gateway {
	gw := &Gateway{Key: keyOf(src), Source: src, Class: class}
	if !class.Valid {
		gw.Problems = append(gw.Problems, classNotAccepted(class.Source.Name))
	}
	var parameterProblems []Problem
	gw.Proxy, parameterProblems = refs.proxies.ofGateway(src, class.Proxy)
	gw.Problems = append(gw.Problems, parameterProblems...)
	var addressProblems []Problem
	gw.Addresses, addressProblems = readAddresses(src.Spec.Addresses)
	gw.Problems = append(gw.Problems, addressProblems...)
	gw.Valid = len(gw.Problems) == 0
	var clientProblems []Problem
	gw.ClientCertificate, clientProblems = readClientCertificate(src, refs)
	gw.Problems = append(append(gw.Problems, clientProblems...), insecureValidation(src)...)
	ports := portNumbers(src.Spec.Listeners)
	for _, l := range src.Spec.Listeners {
		gw.Listeners = append(gw.Listeners, buildListener(gw, nil, l, ports[Transport(l.Protocol)], refs))
	}
	markConflicts(gw.Listeners)
	return gw
}

// settle sums up the Gateway's own listeners. What is wrong with those of a ListenerSet stands
// there, for its owner.
func (gw *Gateway) settle() {
	if p, ok := notAcceptedListeners(gw.Own()); ok {
		gw.Problems = append(gw.Problems, p)
	}
}

// Own are the listeners that stand in the Gateway itself.
func (gw *Gateway) Own() []*Listener {
	for i, l := range gw.Listeners {
		if l.Set != nil {
			return gw.Listeners[:i:i]
		}
	}
	return gw.Listeners
}

// readAddresses gives the IP addresses that are asked for.
func readAddresses(specs []gwv1.GatewaySpecAddress) ([]string, []Problem) {
	var addresses []string
	var problems []Problem
	for i, a := range specs {
		if t := deref(a.Type, gwv1.IPAddressType); t != gwv1.IPAddressType {
			problems = append(problems, addressUnsupported(i, string(t)))
			continue
		}
		if a.Routability != gwv1.GatewayAddressRoutabilityDefault {
			problems = append(problems, addressUnsupported(i, "IPAddress with routability "+string(a.Routability)))
			continue
		}
		if a.Value == "" { // any address will do
			continue
		}
		ip, err := netip.ParseAddr(a.Value)
		if err != nil || ip.Zone() != "" {
			problems = append(problems, addressInvalid(i, a.Value))
			continue
		}
		addresses = append(addresses, ip.String())
	}
	return addresses, problems
}

// notAcceptedListeners sums up the listeners that can never be served as written.
// A listener whose references do not resolve is accepted: it waits for them.
func notAcceptedListeners(listeners []*Listener) (Problem, bool) {
	var names []string
	for _, l := range listeners {
		if !l.Accepted() {
			names = append(names, string(l.Name))
		}
	}
	if len(names) == 0 && len(listeners) > 0 {
		return Problem{}, false
	}
	return listenersNotValid(names, len(names) == len(listeners)), true
}
