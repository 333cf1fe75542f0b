// The service rig.Echo with bytes for messages, and a client of it.
//
//	grpc serve ADDRESS
//	grpc call ADDRESS COUNT LEVEL
//
// When a line comes on its standard input, the server says in JSON how many calls it saw, with a traceparent and with two.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"spanwire.test/http2/body"
)

type raw struct{}

func (raw) Marshal(value any) ([]byte, error)      { return *value.(*[]byte), nil }
func (raw) Unmarshal(data []byte, value any) error { *value.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                           { return "raw" }

var seen, with, twice atomic.Int64

func echo(_ any, stream grpc.ServerStream) error {
	seen.Add(1)
	fields, _ := metadata.FromIncomingContext(stream.Context())
	if count := len(fields.Get("traceparent")); count > 0 {
		with.Add(1)
		if count > 1 {
			twice.Add(1)
		}
	}
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

func serve(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(echo))
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Printf("{\"requests\": %d, \"with\": %d, \"twice\": %d}\n", seen.Swap(0), with.Swap(0), twice.Swap(0))
		}
	}()
	panic(server.Serve(listener))
}

func call(address string, count, level int) error {
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return err
	}
	var errors []string
	var lock sync.Mutex
	one := func(number int) error {
		sent, got := body.Of(number), []byte(nil)
		ctx := metadata.AppendToOutgoingContext(context.Background(), "x-id", strconv.Itoa(number))
		if number%10 == 9 { // three messages each way on one stream
			stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/rig.Echo/Stream")
			if err != nil {
				return err
			}
			for range 3 {
				if err := stream.SendMsg(&sent); err != nil {
					return err
				}
				if err := stream.RecvMsg(&got); err != nil {
					return err
				}
				if !bytes.Equal(sent, got) {
					return fmt.Errorf("a message of the stream differs")
				}
			}
			if err := stream.CloseSend(); err != nil {
				return err
			}
			if err := stream.RecvMsg(&got); err != io.EOF {
				return fmt.Errorf("the stream ends with %v", err)
			}
			return nil
		}
		if err := connection.Invoke(ctx, "/rig.Echo/Call", &sent, &got); err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return fmt.Errorf("%d bytes came back for %d, or others", len(got), len(sent))
		}
		return nil
	}
	var done sync.WaitGroup
	for worker := 0; worker < level; worker++ {
		done.Add(1)
		go func() {
			defer done.Done()
			for number := worker; number < count; number += level {
				if err := one(number); err != nil {
					lock.Lock()
					errors = append(errors, fmt.Sprintf("%d: %v", number, err))
					lock.Unlock()
				}
			}
		}()
	}
	done.Wait()
	if len(errors) > 0 {
		return fmt.Errorf("%d errors: %v", len(errors), errors[:min(3, len(errors))])
	}
	return connection.Close()
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	count, _ := strconv.Atoi(os.Args[3])
	level, _ := strconv.Atoi(os.Args[4])
	if err := call(os.Args[2], count, level); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
