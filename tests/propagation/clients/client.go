package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func must(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

func call(method, url string, body []byte) (http.Header, []byte) {
	request, err := http.NewRequest(method, url, bytes.NewReader(body))
	must(err == nil, "request")
	answer, err := http.DefaultClient.Do(request)
	must(err == nil, fmt.Sprint(err))
	data, err := io.ReadAll(answer.Body)
	must(err == nil, fmt.Sprint(err))
	answer.Body.Close()
	return answer.Header, data
}

func main() {
	base := os.Args[1]
	count, _ := strconv.Atoi(os.Args[2])
	for number := 0; number < count; number++ {
		_, data := call("GET", fmt.Sprintf("%s/get/%d", base, number), nil)
		must(string(data) == "ok", "get")
		body := bytes.Repeat([]byte{byte(number)}, 300000)
		_, data = call("POST", fmt.Sprintf("%s/upload/%d", base, number), body)
		must(string(data) == sum(body), "upload")
		headers, data := call("GET", fmt.Sprintf("%s/download/%d", base, number), nil)
		must(headers.Get("X-Sum") == sum(data), "download")
	}
}
