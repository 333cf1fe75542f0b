// The same hop on Go's net/http.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	next := os.Getenv("NEXT")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	call := func(path string) (int, []byte, error) {
		response, err := client.Get(next + path)
		if err != nil {
			return 502, nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, body, err
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		status, body := 200, []byte("end")
		if next != "" {
			status, body, _ = call(r.URL.Path)
		}
		w.WriteHeader(status)
		w.Write(body)
	})
	if hertz, _ := strconv.ParseFloat(os.Getenv("BG_HZ"), 64); next != "" && hertz > 0 {
		go func() {
			for count := 1; ; count++ {
				time.Sleep(time.Duration(float64(time.Second) / hertz))
				call(fmt.Sprintf("/bg/%d-%d", os.Getpid(), count))
			}
		}()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	http.Serve(listener, nil)
}
