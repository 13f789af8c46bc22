package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	millracev1 "millrace/proto/millrace/v1"
)

// service is the service of admin.proto. Gateways, targets and versions have files of their own;
// the methods of the resources that are all alike are here.
type service struct {
	millracev1.UnimplementedAdminServiceServer
	plane    Plane
	clusters Clusters
	release  string
	log      *slog.Logger
}

// refusal is what the client is told of an error; of what it is not told, the log is.
func (s *service) refusal(call string, err error) *problem {
	p := problemOf(err)
	if p.is(internalError) {
		s.log.Error("admin", "call", call, "error", err)
	}
	return p
}

func (s *service) ListUpstreams(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.UpstreamList, error) {
	all, fileOwned, err := list(ctx, s, upstreams, r.Gateway)
	return &millracev1.UpstreamList{Upstreams: all, FileOwned: fileOwned}, err
}

func (s *service) GetUpstream(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.Upstream, error) {
	return get(ctx, s, upstreams, r.Gateway, r.Id)
}

func (s *service) CreateUpstream(ctx context.Context, r *millracev1.UpstreamCreate) (*millracev1.Upstream, error) {
	return create(ctx, s, upstreams, r, r.Gateway, orBlank(r.GetResource()))
}

func (s *service) ReplaceUpstream(ctx context.Context, r *millracev1.UpstreamWrite) (*millracev1.Upstream, error) {
	return replace(ctx, s, upstreams, r, r.Gateway, r.Id, orBlank(r.GetResource()))
}

func (s *service) PatchUpstream(ctx context.Context, r *millracev1.ResourcePatch) (*millracev1.Upstream, error) {
	return patch(ctx, s, upstreams, r, r.Gateway, r.Id, r.GetPatch())
}

func (s *service) DeleteUpstream(ctx context.Context, r *millracev1.ResourceDelete) (*emptypb.Empty, error) {
	return remove(ctx, s, upstreams, r, r.Gateway, r.Id)
}

func (s *service) ListServices(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.ServiceList, error) {
	all, fileOwned, err := list(ctx, s, services, r.Gateway)
	return &millracev1.ServiceList{Services: all, FileOwned: fileOwned}, err
}

func (s *service) GetService(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.Service, error) {
	return get(ctx, s, services, r.Gateway, r.Id)
}

func (s *service) CreateService(ctx context.Context, r *millracev1.ServiceCreate) (*millracev1.Service, error) {
	return create(ctx, s, services, r, r.Gateway, orBlank(r.GetResource()))
}

func (s *service) ReplaceService(ctx context.Context, r *millracev1.ServiceWrite) (*millracev1.Service, error) {
	return replace(ctx, s, services, r, r.Gateway, r.Id, orBlank(r.GetResource()))
}

func (s *service) PatchService(ctx context.Context, r *millracev1.ResourcePatch) (*millracev1.Service, error) {
	return patch(ctx, s, services, r, r.Gateway, r.Id, r.GetPatch())
}

func (s *service) DeleteService(ctx context.Context, r *millracev1.ResourceDelete) (*emptypb.Empty, error) {
	return remove(ctx, s, services, r, r.Gateway, r.Id)
}

func (s *service) ListRules(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.RuleList, error) {
	all, fileOwned, err := list(ctx, s, rules, r.Gateway)
	return &millracev1.RuleList{Rules: all, FileOwned: fileOwned}, err
}

func (s *service) GetRule(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.Rule, error) {
	return get(ctx, s, rules, r.Gateway, r.Id)
}

func (s *service) CreateRule(ctx context.Context, r *millracev1.RuleCreate) (*millracev1.Rule, error) {
	return create(ctx, s, rules, r, r.Gateway, orBlank(r.GetResource()))
}

func (s *service) ReplaceRule(ctx context.Context, r *millracev1.RuleWrite) (*millracev1.Rule, error) {
	return replace(ctx, s, rules, r, r.Gateway, r.Id, orBlank(r.GetResource()))
}

func (s *service) PatchRule(ctx context.Context, r *millracev1.ResourcePatch) (*millracev1.Rule, error) {
	return patch(ctx, s, rules, r, r.Gateway, r.Id, r.GetPatch())
}

func (s *service) DeleteRule(ctx context.Context, r *millracev1.ResourceDelete) (*emptypb.Empty, error) {
	return remove(ctx, s, rules, r, r.Gateway, r.Id)
}

func (s *service) ListKeys(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.KeyList, error) {
	all, fileOwned, err := list(ctx, s, keys, r.Gateway)
	return &millracev1.KeyList{Keys: all, FileOwned: fileOwned}, err
}

func (s *service) GetKey(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.Key, error) {
	return get(ctx, s, keys, r.Gateway, r.Id)
}

func (s *service) ReplaceKey(ctx context.Context, r *millracev1.KeyWrite) (*millracev1.Key, error) {
	return replace(ctx, s, keys, r, r.Gateway, r.Id, orBlank(r.GetResource()))
}

func (s *service) PatchKey(ctx context.Context, r *millracev1.ResourcePatch) (*millracev1.Key, error) {
	return patch(ctx, s, keys, r, r.Gateway, r.Id, r.GetPatch())
}

func (s *service) DeleteKey(ctx context.Context, r *millracev1.ResourceDelete) (*emptypb.Empty, error) {
	return remove(ctx, s, keys, r, r.Gateway, r.Id)
}

func (s *service) ListPacks(ctx context.Context, r *millracev1.GatewayRequest) (*millracev1.PackList, error) {
	all, fileOwned, err := list(ctx, s, packs, r.Gateway)
	return &millracev1.PackList{Packs: all, FileOwned: fileOwned}, err
}

func (s *service) GetPack(ctx context.Context, r *millracev1.ResourceRequest) (*millracev1.Pack, error) {
	return get(ctx, s, packs, r.Gateway, r.Id)
}

func (s *service) CreatePack(ctx context.Context, r *millracev1.PackCreate) (*millracev1.Pack, error) {
	if err := packs.check(r.GetResource()); err != nil {
		return nil, err
	}
	return create(ctx, s, packs, r, r.Gateway, orBlank(r.GetResource()))
}

func (s *service) ReplacePack(ctx context.Context, r *millracev1.PackWrite) (*millracev1.Pack, error) {
	return replace(ctx, s, packs, r, r.Gateway, r.Id, orBlank(r.GetResource()))
}

func (s *service) PatchPack(ctx context.Context, r *millracev1.ResourcePatch) (*millracev1.Pack, error) {
	return patch(ctx, s, packs, r, r.Gateway, r.Id, r.GetPatch())
}

func (s *service) DeletePack(ctx context.Context, r *millracev1.ResourceDelete) (*emptypb.Empty, error) {
	return remove(ctx, s, packs, r, r.Gateway, r.Id)
}

// CreateKey makes what admits, shows it this once and stores its hash.
func (s *service) CreateKey(ctx context.Context, r *millracev1.KeyCreate) (*millracev1.CreatedKey, error) {
	if err := keys.check(r.GetResource()); err != nil {
		return nil, err
	}
	admits, hash := newKey()
	given := proto.CloneOf(orBlank(r.GetResource()))
	given.Hash = hash
	k, err := create(ctx, s, keys, r, r.Gateway, given)
	if err != nil {
		return nil, err
	}
	if r.DryRun {
		admits = ""
	}
	return &millracev1.CreatedKey{Id: k.Id, Name: k.Name, ExpiresAt: k.ExpiresAt, Limits: k.Limits, Key: admits}, nil
}

// newKey makes a key of 256 random bits and its hash.
func newKey() (key, hash string) {
	var random [32]byte
	rand.Read(random[:]) // never fails
	key = "mr_" + base64.RawURLEncoding.EncodeToString(random[:])
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:])
}

// orBlank is r, or an empty one in place of nil, which a gRPC client can send.
func orBlank[R resource](r R) R {
	if !r.ProtoReflect().IsValid() {
		return blank(r)
	}
	return r
}
