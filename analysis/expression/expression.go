// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package expression turns a CEL expression over a JSON document into a number. It
// is pure: the document is data. What an expression may cost is bounded, so that none that a
// user writes can keep the operator busy.
package expression

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
)

// maxCost bounds the work of one evaluation, in CEL's own units: about one for each
// node that is visited, and for each ten characters that are compared.
const maxCost = 1_000_000

// Number is an expression that was checked. It may be used from several goroutines.
type Number struct {
	program cel.Program
}

// Compile checks an expression of a number over body. The error is a sentence that says
// what to write instead.
func Compile(text string) (*Number, error) {
	env, err := cel.NewEnv(
		cel.Variable("body", cel.DynType),
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		ext.Strings(), ext.Math(), ext.Lists(),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("it is not a CEL expression over body (%s): write body.data.errors / double(body.data.total)", firstLine(issues))
	}
	switch kind := ast.OutputType().Kind(); kind {
	case types.DoubleKind, types.IntKind, types.UintKind, types.DynKind, types.AnyKind:
	case types.BoolKind:
		return nil, fmt.Errorf("it gives true or false instead of a number: write (%s) ? 1.0 : 0.0", text)
	default:
		return nil, fmt.Errorf("it gives a %s instead of a number: write an expression such as body.data.errors / double(body.data.total)", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("it cannot be evaluated: %w", err)
	}
	return &Number{program}, nil
}

// firstLine is the first thing that is wrong with an expression, in one line.
func firstLine(issues *cel.Issues) string {
	for _, e := range issues.Errors() {
		return fmt.Sprintf("at character %d: %s", e.Location.Column()+1, strings.Join(strings.Fields(e.Message), " "))
	}
	return strings.Join(strings.Fields(issues.Err().Error()), " ")
}

var (
	// errNoKey and the others are what an evaluation can end with. What CEL says of it may repeat the document,
	// which is not the reader's to see.
	errNoKey      = errors.New("the answer has no such field; write body.?a.?b.orValue(0.0) where it may be missing")
	errDivision   = errors.New("it divides by zero; write total == 0.0 ? 0.0 : bad / total")
	errCost       = errors.New("it takes too many steps on this answer; ask for a smaller one, or aggregate at the source")
	errIndex      = errors.New("a list of the answer is shorter than the index")
	errOverload   = errors.New("a value of the answer has another type than the expression expects; write double(…) or int(…) around it")
	errEvaluation = errors.New("it cannot be evaluated on this answer")
)

// Of evaluates the expression over a document as encoding/json decodes it into an
// any; the number may be NaN or infinite. The error is a sentence, and repeats nothing of
// the document.
func (n *Number) Of(body any) (float64, error) {
	out, _, err := n.program.Eval(map[string]any{"body": body})
	if err != nil {
		return 0, explained(err)
	}
	v, ok := number(out)
	if !ok {
		return 0, fmt.Errorf("it gives a %s instead of a number", out.Type().TypeName())
	}
	return v, nil
}

func number(out ref.Val) (float64, bool) {
	switch v := out.(type) {
	case types.Double:
		return float64(v), true
	case types.Int:
		return float64(v), true
	case types.Uint:
		return float64(v), true
	}
	return 0, false
}

func explained(err error) error {
	said := err.Error()
	for _, known := range []struct {
		part string
		err  error
	}{
		{"no such key", errNoKey},
		{"no such attribute", errNoKey},
		{"division by zero", errDivision},
		{"modulus by zero", errDivision},
		{"cost limit", errCost},
		{"index out of bounds", errIndex},
		{"no such overload", errOverload},
	} {
		if strings.Contains(said, known.part) {
			return known.err
		}
	}
	return errEvaluation
}
