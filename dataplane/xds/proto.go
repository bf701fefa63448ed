// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// toAny packs a message with deterministic bytes. It cannot fail for messages that
// were made here: all strings are valid UTF-8, because the API server checked them.
func toAny(m proto.Message) *anypb.Any {
	packed := &anypb.Any{}
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("packing " + string(m.ProtoReflect().Descriptor().FullName()) + ": " + err.Error())
	}
	return packed
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

func boolean(b bool) *wrapperspb.BoolValue { return wrapperspb.Bool(b) }

func wide(n uint64) *wrapperspb.UInt64Value { return wrapperspb.UInt64(n) }

func number(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }
