package metrics

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// haproxyColumns are those of HAProxy 2.0 and of every version since, in their order
// (https://docs.haproxy.org/2.6/management.html#9.1).
const haproxyColumns = "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight," +
	"act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status," +
	"check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot," +
	"cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status," +
	"agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr," +
	"cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses"

// What HAProxy calls the three kinds of rows.
const (
	frontend = 0
	backend  = 1
	server   = 2
)

// WriteHAProxy writes the digest as HAProxy's statistics are written, for the tools that read
// those:
// a gateway is a frontend, an upstream a backend, GATEWAY/UPSTREAM, and a target one of its
// servers.
// What has no meaning here is left empty.
func (d *Digest) WriteHAProxy(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "# %s,\n", haproxyColumns); err != nil {
		return err
	}
	rows := csv.NewWriter(w)
	id := 0
	for _, g := range d.Gateways {
		id++
		writeRow(rows, g.Counts, map[string]any{
			"pxname": g.Gateway, "svname": "FRONTEND", "type": frontend, "status": "OPEN", "iid": id, "sid": 0,
			"bin": g.RequestBytes, "bout": g.ResponseBytes, "ereq": g.ByClass["4xx"], "req_tot": g.Total, "cli_abrt": g.ByClass["none"],
			"wretr": g.Retries,
		})
	}
	for _, u := range d.Upstreams {
		id++
		weight, active, backup := uint32(0), 0, 0
		name := u.Gateway + "/" + u.Upstream
		sid := 0
		for _, t := range d.Targets {
			if t.Gateway != u.Gateway || t.Upstream != u.Upstream {
				continue
			}
			sid++
			row := map[string]any{
				"pxname": name, "svname": t.Target, "type": server, "iid": id, "sid": sid, "status": t.State.haproxy(),
				"weight": t.State.Weight, "act": count(t.Priority == 0), "bck": count(t.Priority > 0), "lbtot": t.Total,
			}
			t.State.load(row, t.FirstToken, t.Reasons)
			writeRow(rows, t.Counts, row)
			if t.State.Healthy {
				weight += t.State.Weight
				active, backup = active+count(t.Priority == 0), backup+count(t.Priority > 0)
			}
		}
		status := "UP"
		if u.Healthy == 0 {
			status = "DOWN"
		}
		if !d.Envoy {
			status = "no check"
		}
		row := map[string]any{
			"pxname": name, "svname": "BACKEND", "type": backend, "iid": id, "sid": 0, "status": status,
			"weight": weight, "act": active, "bck": backup, "lbtot": u.Total, "algo": u.Algorithm,
		}
		State{ActiveRequests: u.ActiveRequests, Connections: u.Connections}.load(row, u.FirstToken, u.Reasons)
		writeRow(rows, u.Counts, row)
	}
	rows.Flush()
	return rows.Error()
}

// load is what is the same for a target and an upstream.
func (s State) load(row map[string]any, first Times, reasons map[string]float64) {
	row["scur"] = s.ActiveRequests
	row["econ"] = reasons["connect-failure"]
	row["eresp"] = total(reasons) - reasons["connect-failure"]
	if first.Count > 0 {
		row["rtime"] = milliseconds(first.Mean)
	}
}

// haproxy is HAProxy's word for the state.
func (s State) haproxy() string {
	switch {
	case !s.Known:
		return "no check"
	case s.Drained:
		return "DRAIN"
	case s.Healthy:
		return "UP"
	}
	return "DOWN"
}

func writeRow(w *csv.Writer, c Counts, row map[string]any) {
	row["pid"], row["mode"], row["stot"] = 1, "http", c.Total
	for _, class := range []string{"1xx", "2xx", "3xx", "4xx", "5xx"} {
		row["hrsp_"+class] = c.ByClass[class]
	}
	row["hrsp_other"] = c.ByClass["none"] + c.ByClass[other]
	if c.Latency.Count > 0 {
		row["ttime"] = milliseconds(c.Latency.Mean)
	}
	var fields []string
	for name := range strings.SplitSeq(haproxyColumns, ",") {
		field := ""
		switch value := row[name].(type) {
		case nil:
		case float64:
			field = strconv.FormatFloat(value, 'f', -1, 64)
		default:
			field = fmt.Sprint(value)
		}
		fields = append(fields, field)
	}
	_ = w.Write(append(fields, "")) // the writer keeps its error for Flush; HAProxy's lines end in a comma
}

func milliseconds(seconds float64) float64 { return math.Round(seconds * 1000) }

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
