// Reads a published log as a stranger would, with the Go checksum database's own packages: signature, root from tiles,
// entries, inclusion, consistency; and that none of them holds once a byte is changed.
//
//	go run . <folder>
//	go run . <URL of a log that is served> <the root's certificate> <records as JSON lines> <a certificate's serial>
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var passed, failed int

func main() {
	switch len(os.Args) {
	case 2:
		check(log{folder: os.Args[1]})
	case 5:
		checkLive(os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	default:
		fmt.Fprintln(os.Stderr, "wanted: the folder of a published log; or URL, root, records and serial")
		os.Exit(2)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func check(l log) {
	verifier, err := note.NewVerifier(strings.TrimSpace(l.text("vkey")))
	must("verifier key is read", err)
	keys := note.VerifierList(verifier)

	signed := l.text("checkpoint")
	newer, err := open(signed, keys)
	must("checkpoint's signature holds", err)
	older, err := open(l.text("checkpoint.old"), keys)
	must("older checkpoint's signature holds", err)
	_, err = open(strings.Replace(signed, "\n"+strconv.FormatInt(newer.N, 10)+"\n", "\n1\n", 1), keys)
	refused("checkpoint of another size", err)

	for name, tree := range map[string]tlog.Tree{"newer": newer, "older": older} {
		root, err := tlog.TreeHash(tree.N, tlog.TileHashReader(tree, l))
		must(name+" tree: root from tiles", err)
		expect(name+" tree: root from tiles is the checkpoint's", root == tree.Hash)
	}

	reader := tlog.TileHashReader(newer, l)
	entries := l.entries(newer.N)
	expect("every entry is served", int64(len(entries)) == newer.N)
	hashes := make([]tlog.Hash, len(entries))
	for i, entry := range entries {
		hashes[i] = tlog.RecordHash(entry)
	}
	expect("entries hash to the checkpoint's root", treeHash(hashes) == newer.Hash)

	for _, index := range []int64{0, 1, 255, 256, newer.N / 2, newer.N - 1} {
		proof, err := tlog.ProveRecord(newer.N, index, reader)
		must(fmt.Sprintf("entry %d: proof from tiles", index), err)
		must(fmt.Sprintf("entry %d: included", index), tlog.CheckRecord(proof, newer.N, newer.Hash, index, hashes[index]))
		refused(fmt.Sprintf("entry %d as its neighbour", index),
			tlog.CheckRecord(proof, newer.N, newer.Hash, index^1, hashes[index]))
	}

	proof, err := tlog.ProveTree(newer.N, older.N, reader)
	must("consistency: proof from tiles", err)
	must("consistency: Go's proof holds", tlog.CheckTree(proof, newer.N, newer.Hash, older.N, older.Hash))
	ours := hashLines(strings.Fields(l.text("consistency")))
	must("consistency: our proof holds", tlog.CheckTree(ours, newer.N, newer.Hash, older.N, older.Hash))
	expect("consistency: both proofs are the same", fmt.Sprint(ours) == fmt.Sprint([]tlog.Hash(proof)))
	ours[0][0] ^= 1
	refused("consistency proof with a changed byte", tlog.CheckTree(ours, newer.N, newer.Hash, older.N, older.Hash))

	index, path, checkpoint, err := readProof(l.text("entry.tlog-proof"))
	must("proof file is read", err)
	expect("proof file carries the checkpoint verbatim", checkpoint == signed)
	must("proof file: entry included", tlog.CheckRecord(path, newer.N, newer.Hash, index, hashes[index]))
	refused("proof file for another entry", tlog.CheckRecord(path, newer.N, newer.Hash, index, hashes[index+1]))

	flipped := log{folder: l.folder, flip: true}
	_, err = tlog.ProveRecord(newer.N, 0, tlog.TileHashReader(newer, flipped))
	refused("tile with a changed byte", err)
}

// log is a folder with the files of a C2SP tlog-tiles log.
type log struct {
	folder string
	flip   bool
}

func (l log) text(name string) string {
	return string(l.bytes(name))
}

func (l log) bytes(name string) []byte {
	data, err := os.ReadFile(filepath.Join(l.folder, filepath.FromSlash(name)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return data
}

func (l log) Height() int { return 8 }

// ReadTiles reads tiles by their C2SP paths, which have no height: tile/8/0/000 is tile/0/000 there.
func (l log) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data := l.bytes(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if l.flip {
			data[0] ^= 1
		}
		all = append(all, data)
	}
	return all, nil
}

func (l log) SaveTiles([]tlog.Tile, [][]byte) {}

func (l log) entries(size int64) [][]byte {
	var entries [][]byte
	for n := int64(0); n*256 < size; n++ {
		width := min(256, size-n*256)
		tile := tlog.Tile{H: 8, L: -1, N: n, W: int(width)}
		data := l.bytes(strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1))
		for len(data) >= 2 {
			length := int(binary.BigEndian.Uint16(data))
			entries = append(entries, data[2:2+length])
			data = data[2+length:]
		}
	}
	return entries
}

// open verifies a checkpoint and reads its first three lines.
func open(signed string, keys note.Verifiers) (tlog.Tree, error) {
	opened, err := note.Open([]byte(signed), keys)
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		return tlog.Tree{}, fmt.Errorf("checkpoint of %d lines", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func readProof(text string) (int64, []tlog.Hash, string, error) {
	proof, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(proof, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" {
		return 0, nil, "", fmt.Errorf("no proof file: %q", lines[0])
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	return index, hashLines(lines[1:]), checkpoint, err
}

func hashLines(lines []string) []tlog.Hash {
	var hashes []tlog.Hash
	for _, line := range lines {
		var hash tlog.Hash
		data, _ := base64.StdEncoding.DecodeString(line)
		copy(hash[:], data)
		hashes = append(hashes, hash)
	}
	return hashes
}

// treeHash is RFC 6962's definition, over all leaves.
func treeHash(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for k*2 < len(hashes) {
		k *= 2
	}
	return tlog.NodeHash(treeHash(hashes[:k]), treeHash(hashes[k:]))
}

func must(what string, err error) {
	report(what, err == nil, fmt.Sprint(err))
}

func refused(what string, err error) {
	report("refused: "+what, err != nil, "was accepted")
}

func expect(what string, holds bool) {
	report(what, holds, "differs")
}

func report(what string, ok bool, why string) {
	if ok {
		passed++
		fmt.Println("ok    ", what)
	} else {
		failed++
		fmt.Println("FAILED", what+":", why)
	}
}
