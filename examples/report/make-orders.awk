# Writes the orders.csv that lies beside it: awk -f make-orders.awk > orders.csv
# The rows follow from a fixed linear congruential generator (Park and Miller), so every run writes the same file.
function random(below) {
    seed = (seed * 16807) % 2147483647
    return int(seed / 2147483647 * below)
}
BEGIN {
    seed = 20261120
    split("210,230,270,300,340,360,330,290,320,380,440,530", orders, ",")
    split("31,28,31,30,31,30,31,31,30,31,30,31", days, ",")
    split("north,north,north,north,east,east,east,south,south,west", regions, ",")
    split("anvil,bellows,chisel,hammer,tongs,vice", products, ",")
    split("8900,4350,1275,2150,1890,6400", cents, ",")
    print "order_id,date,region,product,quantity,unit_cents"
    id = 100000
    for (month = 1; month <= 12; month++) {
        for (i = 1; i <= orders[month]; i++) {
            date = sprintf("2025-%02d-%02d", month, random(days[month]) + 1)
            region = regions[random(10) + 1]
            p = random(6) + 1
            printf "%d,%s,%s,%s,%d,%d\n", ++id, date, region, products[p], random(9) + 1, cents[p]
        }
    }
}
