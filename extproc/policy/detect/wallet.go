package detect

import (
	"crypto/sha256"
	"math/big"
	"strings"
)

// wallets: addresses of Bitcoin (base58check and BIP 173, 350) have check sums. Those of Ethereum
// have one in the case of their letters (EIP-55), which is not looked at.
var wallets = []Detector{
	{Name: "bitcoin-address", Category: Crypto, Check: alone(bitcoin),
		Expr: `(\w)??(?:([13][1-9A-HJ-NP-Za-km-z]{25,34})|(bc1[02-9ac-hj-np-z]{11,71}))(\w)?`},
	{Name: "ethereum-address", Category: Crypto, Check: alone(nil), Expr: `(\w)??(0x[0-9a-fA-F]{40})(\w)?`},
}

const (
	base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	bech32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
)

func bitcoin(s string) bool {
	if data, is := strings.CutPrefix(s, "bc1"); is {
		return segwit(data)
	}
	n, base := new(big.Int), big.NewInt(58)
	for i := range len(s) {
		n.Mul(n, base).Add(n, big.NewInt(int64(strings.IndexByte(base58, s[i]))))
	}
	if n.BitLen() > 25*8 {
		return false
	}
	all := n.FillBytes(make([]byte, 25))
	once := sha256.Sum256(all[:21])
	twice := sha256.Sum256(once[:])
	return (all[0] == 0 || all[0] == 5) && string(twice[:4]) == string(all[21:])
}

// segwit: the check sum of BIP 173 over "bc" and the data, and the other constant of BIP 350.
func segwit(data string) bool {
	sum := uint32(1)
	add := func(v byte) {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	for _, v := range []byte{'b' >> 5, 'c' >> 5, 0, 'b' & 31, 'c' & 31} {
		add(v)
	}
	for i := range len(data) {
		add(byte(strings.IndexByte(bech32, data[i])))
	}
	return sum == 1 || sum == 0x2bc830a3
}
