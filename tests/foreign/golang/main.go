// A client of a transparency log that knows nothing of Sudur: it reads checkpoints, tiles and entries over
// HTTP as C2SP tlog-tiles has them, and checks them with the code that checks Go's own checksum database.
//
// It says what it checked, a line for each step, and ends with 1 at the first thing that is wrong.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	usage      = "usage: foreign URL VKEY OLD_SIZE INDEX..."
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	maxBody    = 32 << 20
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New(usage)
	}
	log := &client{url: args[0], vkey: args[1]}
	newest, err := log.checkpoint("/checkpoint")
	if err != nil {
		return err
	}
	fmt.Printf("checkpoint: %d leaves, signed\n", newest.N)
	hashes := tlog.TileHashReader(newest, log)
	old, err := log.checkpoint("/checkpoint/" + args[2])
	if err != nil {
		return err
	}
	if err := consistent(hashes, newest, old); err != nil {
		return err
	}
	fmt.Printf("consistency: the tree of %d leaves grew out of that of %d\n", newest.N, old.N)
	for _, arg := range args[3:] {
		index, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return err
		}
		if err := log.included(hashes, newest, index); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if err := log.proven(index); err != nil {
			return fmt.Errorf("tlog-proof of leaf %d: %w", index, err)
		}
	}
	fmt.Printf("inclusion: %d leaves, by tiles and by tlog-proof\n", len(args)-3)
	if err := log.replayed(newest); err != nil {
		return err
	}
	fmt.Printf("entries: %d, which make the same root\n", newest.N)
	return nil
}

type client struct{ url, vkey string }

// get returns the body at path, and checks its type and that caches are told how long it stays.
func (c *client) get(path, accept, mediaType, cache string) ([]byte, error) {
	request, err := http.NewRequest("GET", c.url+path, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, response.Status, body)
	}
	if found := response.Header.Get("Content-Type"); found != mediaType {
		return nil, fmt.Errorf("GET %s: its type is %q", path, found)
	}
	if found := response.Header.Get("Cache-Control"); !strings.Contains(found, cache) {
		return nil, fmt.Errorf("GET %s: caches are told %q", path, found)
	}
	return body, nil
}

func (c *client) checkpoint(path string) (tlog.Tree, error) {
	cache := "immutable"
	if path == "/checkpoint" {
		cache = "no-cache"
	}
	body, err := c.get(path, "", "text/plain; charset=utf-8", cache)
	if err != nil {
		return tlog.Tree{}, err
	}
	return c.open(body)
}

// open verifies the log's signature and reads origin, size and root. Signatures of others are left alone.
func (c *client) open(body []byte) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(c.vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(body, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("no checkpoint of %s: %q", verifier.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func consistent(hashes tlog.HashReader, newest, old tlog.Tree) error {
	proof, err := tlog.ProveTree(newest.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, newest.N, newest.Hash, old.N, old.Hash)
}

func (c *client) included(hashes tlog.HashReader, tree tlog.Tree, index int64) error {
	proof, err := tlog.ProveRecord(tree.N, index, hashes)
	if err != nil {
		return err
	}
	entries, err := c.bundle(index/tileWidth, tree.N)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entries[index%tileWidth]))
}

// proven checks a C2SP tlog-proof whose extra data is the leaf.
func (c *client) proven(index int64) error {
	text := "text/plain; charset=utf-8"
	body, err := c.get(fmt.Sprintf("/v1/receipt/%d", index), "text/plain", text, "no-cache")
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not in its form: %q", body)
	}
	leaf, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if !strings.HasPrefix(lines[1], "extra ") || err != nil || lines[2] != fmt.Sprintf("index %d", index) {
		return fmt.Errorf("not of this leaf: %q", head)
	}
	proof := tlog.RecordProof{}
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := c.open(checkpoint)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf))
}

// replayed reads every entry and builds the tree anew.
func (c *client) replayed(tree tlog.Tree) error {
	stored := []tlog.Hash{}
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, 0, len(indexes))
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	for start := int64(0); start < tree.N; start += tileWidth {
		entries, err := c.bundle(start/tileWidth, tree.N)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			more, err := tlog.StoredHashes(start+int64(i), entry, reader)
			if err != nil {
				return err
			}
			stored = append(stored, more...)
		}
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("the entries make the root %s, the checkpoint says %s", root, tree.Hash)
	}
	return err
}

func (c *client) bundle(number, size int64) ([][]byte, error) {
	width := size - number*tileWidth
	if width > tileWidth {
		width = tileWidth
	}
	path := "/tile/entries/" + position(number, int(width))
	body, err := c.get(path, "", "application/octet-stream", "immutable")
	if err != nil {
		return nil, err
	}
	entries := [][]byte{}
	for len(body) >= 2 {
		length := int(binary.BigEndian.Uint16(body))
		if len(body) < 2+length {
			break
		}
		entries, body = append(entries, body[2:2+length]), body[2+length:]
	}
	if len(body) != 0 || int64(len(entries)) != width {
		return nil, fmt.Errorf("%s: %d entries, then %d bytes", path, len(entries), len(body))
	}
	return entries, nil
}

// Height, ReadTiles and SaveTiles make the client a tlog.TileReader.
func (c *client) Height() int { return tileHeight }

func (c *client) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, 0, len(tiles))
	for _, tile := range tiles {
		path := fmt.Sprintf("/tile/%d/%s", tile.L, position(tile.N, tile.W))
		body, err := c.get(path, "", "application/octet-stream", "immutable")
		if err != nil {
			return nil, err
		}
		read = append(read, body)
	}
	return read, nil
}

func (c *client) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

// position is <N>[.p/<W>]: Go's own path of a tile without what C2SP leaves out, "tile/<height>/<level>/".
func position(number int64, width int) string {
	path := tlog.Tile{H: tileHeight, L: 0, N: number, W: width}.Path()
	return strings.TrimPrefix(path, fmt.Sprintf("tile/%d/0/", tileHeight))
}
