package config

import (
	"errors"
	"fmt"
	"strconv"

	"millrace/prices"
	millracev1 "millrace/proto/millrace/v1"
)

// prices checks the operator's prices.
func (v *validation) prices(all []*millracev1.Price) {
	for i, p := range all {
		var bad *prices.FieldError
		if _, err := priceOf(p); errors.As(err, &bad) {
			v.errorf(fmt.Sprintf("prices[%d].%s", i, bad.Field), "%v", bad.Err)
		}
	}
}

// resolvePrices is the table of prices, the operator's first.
func resolvePrices(all []*millracev1.Price) prices.Table {
	var rows []prices.Row
	for _, p := range all {
		price, _ := priceOf(p) // validated
		rows = append(rows, prices.Row{Provider: p.Provider, Model: p.Model, Price: price})
	}
	return prices.Published().After(rows)
}

func priceOf(p *millracev1.Price) (prices.Price, error) {
	return prices.NewPrice(written(p.Input), written(p.CacheRead), written(p.CacheWrite), written(p.Output), written(p.Reasoning))
}

// written is the number as the operator wrote it: a float64 keeps fifteen digits.
func written(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'f', -1, 64)
}
