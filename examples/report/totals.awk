# Totals of the orders by month or by region (-v by=…): "key,orders,revenue in cents", in the order of first appearance.
# Money is counted in whole cents, which awk's numbers hold exactly up to 2^53.
BEGIN { FS = "," }
NR == 1 { next }
{
    key = by == "month" ? substr($2, 1, 7) : $3
    if (!(key in orders)) keys[++n] = key
    orders[key]++
    cents[key] += $5 * $6
}
END { for (i = 1; i <= n; i++) printf "%s,%d,%.0f\n", keys[i], orders[keys[i]], cents[keys[i]] }
