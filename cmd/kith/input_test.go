package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestInterruptEndsTheWaitForInput(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	silent, end := io.Pipe()
	defer end.Close()
	done := make(chan error)
	go func() { done <- new(importer).run(ctx, newInput(ctx, silent)) }()
	if _, err := end.Write([]byte("\n")); err != nil { // it has begun to wait
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := readValue(ctx, silent); !errors.Is(err, context.Canceled) {
		t.Fatalf("a value: %v", err)
	}
}

func TestInputIsReadAsItIs(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	for _, from := range []io.Reader{
		bytes.NewReader(content), iotest.HalfReader(bytes.NewReader(content)), iotest.DataErrReader(bytes.NewReader(content)),
	} {
		got, err := io.ReadAll(newInput(t.Context(), from))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(content), err)
		}
	}
	if _, err := io.ReadAll(newInput(t.Context(), iotest.ErrReader(io.ErrClosedPipe))); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
}
