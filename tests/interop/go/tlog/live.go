// The log of an issuer that runs, read over HTTPS by nobody in particular: whose key signed the head, root from tiles, and
// that the record of one certificate is in it.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// record is one row of the administrators' view of the log.
type record struct {
	Index      int64  `json:"log_index"`
	Commitment string `json:"commitment"`
	Salt       string `json:"salt"`
	Record     string `json:"record"`
}

// checkLive reads the log below url, by the root's certificate, and looks for the certificate with this serial.
func checkLive(url, rootFile, rowsFile, serial string) {
	rootPem := (log{folder: "/"}).bytes(rootFile)
	block, _ := pem.Decode(rootPem)
	root, err := x509.ParseCertificate(block.Bytes)
	must("root is read", err)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	l := served{url: url, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}}

	// A head is signed each second: the one that has all these records may be still to come.
	lines := strings.Split(strings.TrimSpace(string((log{folder: "/"}).bytes(rowsFile))), "\n")
	checkpoint := string(l.get("checkpoint"))
	for begun := time.Now(); time.Since(begun) < 20*time.Second; checkpoint = string(l.get("checkpoint")) {
		size, err := strconv.Atoi(strings.Split(checkpoint, "\n")[1])
		if err != nil || size >= len(lines) {
			break
		}
	}
	origin, _, _ := strings.Cut(checkpoint, "\n")
	var verifiers []note.Verifier
	rest := l.get("keys")
	for {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = more
		certificate, err := x509.ParseCertificate(block.Bytes)
		must("head key's certificate is read", err)
		must("head key is certified by the root", certificate.CheckSignatureFrom(root))
		expect("head key's only usage is that of heads", len(certificate.ExtKeyUsage) == 0 &&
			len(certificate.UnknownExtKeyUsage) == 1 &&
			certificate.UnknownExtKeyUsage[0].String() == "1.3.6.1.4.1.32473.4")
		now := time.Now()
		expect("head key is in its time", now.After(certificate.NotBefore) && now.Before(certificate.NotAfter))
		key, fits := certificate.PublicKey.(ed25519.PublicKey)
		expect("head key is Ed25519", fits)
		text, err := note.NewEd25519VerifierKey(origin, key)
		must("head key as a verifier key", err)
		verifier, err := note.NewVerifier(text)
		must("verifier key is read", err)
		verifiers = append(verifiers, verifier)
	}
	keys := note.VerifierList(verifiers...)
	tree, err := open(checkpoint, keys)
	must("live checkpoint's signature holds", err)
	_, err = open(strings.Replace(checkpoint, "revocation ", "revocation 1", 1), keys)
	refused("live checkpoint with another revocation number", err)

	reader := tlog.TileHashReader(tree, l)
	hash, err := tlog.TreeHash(tree.N, reader)
	must("live root from tiles", err)
	expect("live root from tiles is the checkpoint's", hash == tree.Hash)

	var rows []record
	for _, line := range lines {
		var row record
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			must("record's row is read", err)
		}
		if strings.Contains(row.Record, serial) {
			rows = append(rows, row)
		}
	}
	expect("certificate has one record", len(rows) == 1)
	if len(rows) == 0 {
		return
	}
	row := rows[0]
	salt, err := hex.DecodeString(row.Salt)
	must("record's salt", err)
	commitment := sha256.Sum256(append(salt, row.Record...))
	expect("record's commitment", hex.EncodeToString(commitment[:]) == row.Commitment)
	proof, err := tlog.ProveRecord(tree.N, row.Index, reader)
	must("certificate's record: proof from live tiles", err)
	leaf := tlog.RecordHash(commitment[:])
	must("certificate's record: included", tlog.CheckRecord(proof, tree.N, tree.Hash, row.Index, leaf))
	changed := sha256.Sum256(append(salt, strings.Replace(row.Record, serial, strings.Repeat("0", len(serial)), 1)...))
	refused("certificate's record with another serial",
		tlog.CheckRecord(proof, tree.N, tree.Hash, row.Index, tlog.RecordHash(changed[:])))

	// A later head of the same log is this one and more.
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		checkpoint = string(l.get("checkpoint"))
		if later, _ := open(checkpoint, keys); later.N > tree.N {
			break
		}
	}
	later, err := open(checkpoint, keys)
	must("later checkpoint's signature holds", err)
	expect("later checkpoint is of a larger log", later.N > tree.N)
	consistency, err := tlog.ProveTree(later.N, tree.N, tlog.TileHashReader(later, l))
	must("later checkpoint: proof from live tiles", err)
	must("later checkpoint: consistent", tlog.CheckTree(consistency, later.N, later.Hash, tree.N, tree.Hash))
}

// served is a log below a URL.
type served struct {
	url    string
	client *http.Client
}

func (l served) get(path string) []byte {
	for {
		answer, err := l.client.Get(l.url + "/" + path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		switch {
		case err == nil && answer.StatusCode == http.StatusOK:
			return body
		case answer.StatusCode == http.StatusTooManyRequests:
			time.Sleep(time.Second)
		default:
			fmt.Fprintln(os.Stderr, path, answer.Status, string(body))
			os.Exit(2)
		}
	}
}

func (l served) Height() int { return 8 }

func (l served) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		all = append(all, l.get(strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
	}
	return all, nil
}

func (l served) SaveTiles([]tlog.Tile, [][]byte) {}
