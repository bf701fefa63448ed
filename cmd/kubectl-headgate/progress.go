// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

// progressLines prints a Canary that changes as lines for a log: each time it
// says something else.
type progressLines struct{ last string }

func (p *progressLines) print(w io.Writer, c v1beta1.Canary) error {
	line := view.Line(c)
	if line == p.last {
		return nil
	}
	p.last = line
	_, err := fmt.Fprintln(w, line)
	return err
}
