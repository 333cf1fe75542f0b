// grpc-go: any method by the handler of unknown services, messages are bytes; the background caller is a goroutine.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const prefix = "/hop.Chain/"

var (
	next    = strings.TrimPrefix(os.Getenv("NEXT"), "http://")
	service = os.Getenv("SERVICE")
	client  *grpc.ClientConn
)

// Messages as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func call(path string) (string, error) {
	limited, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var question, answer []byte
	err := client.Invoke(limited, path, &question, &answer)
	return string(answer), err
}

func handle(_ any, stream grpc.ServerStream) error {
	body, _ := grpc.MethodFromServerStream(stream)
	var question []byte
	err := stream.RecvMsg(&question)
	if err == nil && client != nil && !strings.HasPrefix(body, prefix+"bg-") {
		body, err = call(body)
	}
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	answer := []byte(service + " " + body)
	return stream.SendMsg(&answer)
}

func number(key string, fallback float64) float64 {
	if value, err := strconv.ParseFloat(os.Getenv(key), 64); err == nil {
		return value
	}
	return fallback
}

func background() {
	hz := number("BG_HZ", 0)
	if client == nil || hz <= 0 {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / hz))
	for n := 0; n < int(hz*number("BG_SECONDS", 600)); n++ {
		<-ticker.C
		if _, err := call(fmt.Sprintf("%sbg-%s-%d-%d", prefix, service, os.Getpid(), n)); err != nil {
			log.Print("background: ", err)
		}
	}
}

func main() {
	if next != "" {
		var err error
		client, err = grpc.NewClient("passthrough:///"+next, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithNoProxy())
		if err != nil {
			log.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	go background()
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(handle))
	log.Fatal(server.Serve(listener))
}
