// Go's crypto/x509 judges one chain: main -bundle roots.pem -chain cert.pem -usage client|server [-name host] [-crl crl.pem].
//
// Verify looks at no CRL. With -crl, revoked() shows what a Go program adds: a list for every issuer of the chain, signed by
// it, not lapsed, and without the certificate.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

var (
	subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	scopeName      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 2}
)

func main() {
	bundle := flag.String("bundle", "", "roots")
	chain := flag.String("chain", "", "leaf, then issuing")
	usage := flag.String("usage", "client", "client or server")
	name := flag.String("name", "", "host name")
	crl := flag.String("crl", "", "CRLs of the whole chain")
	flag.Parse()
	if err := judge(*bundle, *chain, *usage, *name, *crl); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func judge(bundle, chain, usage, name, crl string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range blocks(bundle, "CERTIFICATE") {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		roots.AddCert(root)
	}
	var certificates []*x509.Certificate
	for _, der := range blocks(chain, "CERTIFICATE") {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		certificates = append(certificates, certificate)
	}
	for _, intermediate := range certificates[1:] {
		intermediates.AddCert(intermediate)
	}
	usages := map[string]x509.ExtKeyUsage{"client": x509.ExtKeyUsageClientAuth, "server": x509.ExtKeyUsageServerAuth}
	paths, err := certificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usages[usage]},
	})
	if err != nil {
		return err
	}
	if crl != "" {
		if err := revoked(paths[0], blocks(crl, "X509 CRL"), time.Now()); err != nil {
			return err
		}
	}
	held, err := scopes(certificates[0])
	if err != nil {
		return err
	}
	fmt.Println(certificates[0].URIs, len(held), "scopes")
	return nil
}

// revoked tells why one of the path's certificates is not known to be good.
func revoked(path []*x509.Certificate, lists [][]byte, now time.Time) error {
	for i, certificate := range path {
		issuer := path[min(i+1, len(path)-1)] // a root is its own
		found := false
		for _, der := range lists {
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				return err
			}
			if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
				continue
			}
			if err := list.CheckSignatureFrom(issuer); err != nil {
				return err
			}
			if now.After(list.NextUpdate) {
				return fmt.Errorf("CRL of %v lapsed at %v", issuer.Subject, list.NextUpdate)
			}
			for _, entry := range list.RevokedCertificates {
				if entry.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
					return fmt.Errorf("revoked at %v", entry.RevocationTime)
				}
			}
			found = true
		}
		if !found {
			return fmt.Errorf("no CRL of %v", issuer.Subject)
		}
	}
	return nil
}

// scopes are the otherNames that crypto/x509 leaves alone.
func scopes(certificate *x509.Certificate) (scopes []string, err error) {
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(subjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(extension.Value, &names); err != nil {
			return nil, err
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
				continue
			}
			var id asn1.ObjectIdentifier
			value, err := asn1.Unmarshal(name.Bytes, &id)
			if err != nil {
				return nil, err
			}
			var scope string
			if _, err := asn1.UnmarshalWithParams(value, &scope, "explicit,tag:0,utf8"); err != nil {
				return nil, err
			}
			if id.Equal(scopeName) {
				scopes = append(scopes, scope)
			}
		}
	}
	if len(certificate.UnhandledCriticalExtensions) > 0 {
		return nil, errors.New("an extension that Go does not know is critical")
	}
	return scopes, nil
}

func blocks(path, kind string) (blocks [][]byte) {
	rest, err := os.ReadFile(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return blocks
		}
		if block.Type == kind {
			blocks = append(blocks, block.Bytes)
		}
	}
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
