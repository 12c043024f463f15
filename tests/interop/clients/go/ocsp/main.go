// Go's x/crypto/ocsp asks about one certificate: main -issuing issuing.pem -chain cert.pem -url URL [-get] [-sha256].
//
// Exits 0 when it is good, 1 with the status or the reason when it is not. The response is verified: its signature by the
// delegated responder, and the responder's certificate by the issuing authority.
package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/crypto/ocsp"
)

func main() {
	issuing := flag.String("issuing", "", "the issuing authority")
	chain := flag.String("chain", "", "leaf, then issuing")
	responder := flag.String("url", "", "where to ask; the leaf's own AIA otherwise")
	inPath := flag.Bool("get", false, "ask by GET")
	sha256 := flag.Bool("sha256", false, "name the issuer by SHA-256")
	flag.Parse()
	if err := judge(*issuing, *chain, *responder, *inPath, *sha256); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func judge(issuing, chain, responder string, inPath, sha256 bool) error {
	leaf, err := first(chain)
	if err != nil {
		return err
	}
	issuer, err := first(issuing)
	if err != nil {
		return err
	}
	if responder == "" {
		if len(leaf.OCSPServer) != 1 {
			return fmt.Errorf("%d OCSP servers in the leaf", len(leaf.OCSPServer))
		}
		responder = leaf.OCSPServer[0]
	}
	options := &ocsp.RequestOptions{Hash: crypto.SHA1}
	if sha256 {
		options.Hash = crypto.SHA256
	}
	request, err := ocsp.CreateRequest(leaf, issuer, options)
	if err != nil {
		return err
	}
	var answer *http.Response
	if inPath {
		answer, err = http.Get(responder + "/" + url.PathEscape(base64.StdEncoding.EncodeToString(request)))
	} else {
		answer, err = http.Post(responder, "application/ocsp-request", bytes.NewReader(request))
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	response, err := ocsp.ParseResponseForCert(body, leaf, issuer)
	if err != nil {
		return err
	}
	if now := time.Now(); now.Before(response.ThisUpdate) || now.After(response.NextUpdate) {
		return fmt.Errorf("speaks from %v to %v", response.ThisUpdate, response.NextUpdate)
	}
	switch response.Status {
	case ocsp.Good:
		fmt.Println("good until", response.NextUpdate)
		return nil
	case ocsp.Revoked:
		return fmt.Errorf("revoked at %v, reason %d", response.RevokedAt, response.RevocationReason)
	default:
		return fmt.Errorf("unknown")
	}
}

func first(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
