// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-headgate is the kubectl plugin: it shows releases, carries a
// person's decisions to the operator, and tells what the Gateways serve. It talks to
// the API server only, and through it to the proxies. What it asks for is an annotation on
// the Canary that kubectl annotate can set as well; of Gateways it only reads.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// version is set by the linker.
var version = "dev"

// Exit codes, for scripts.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2
	exitRejected   = 3
	exitInProgress = 4
	exitPerson     = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	code := run(ctx, streams, os.Args[1:])
	stop()
	os.Exit(code)
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, streams genericiooptions.IOStreams, args []string) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var coded *exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		if coded.message != "" {
			fmt.Fprintln(streams.ErrOut, coded.message)
		}
		return coded.code
	}
	fmt.Fprintf(streams.ErrOut, "Error: %v\n", err)
	return exitError
}

// exitCode ends the program with a code of its own.
type exitCode struct {
	code    int
	message string
}

func (e *exitCode) Error() string { return fmt.Sprintf("exit code %d: %s", e.code, e.message) }

// usageError is a command line that cannot be understood.
func usageError(format string, args ...any) error {
	return &exitCode{exitUsage, "Error: " + fmt.Sprintf(format, args...)}
}
