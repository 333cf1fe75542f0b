// Package body has what request number N sends, the same in each language: see ../../README.md.
package body

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
)

func Of(number int) []byte {
	size := number * 7 % 600
	if number%50 == 7 {
		size = 70000
	}
	return bytes.Repeat([]byte{byte(number)}, size)
}

func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
