# Refuses a file with a row that the other scripts would count wrongly, and says which row it is.
set -eu
awk -F , '
    NR == 1 && $0 != "order_id,date,region,product,quantity,unit_cents" { fail("an unknown header") }
    NR == 1 { next }
    NF != 6 { fail("not six columns") }
    $2 !~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]$/ { fail("a bad date") }
    $5 !~ /^[0-9]+$/ || $6 !~ /^[0-9]+$/ { fail("a bad number") }
    seen[$1]++ { fail("an order that was there before") }
    function fail(what) { print FILENAME ":" NR ": " what > "/dev/stderr"; failed = 1; exit 1 }
    END { if (!failed) print NR - 1 }
' "$1" > count
read -r orders < count
echo "$1: $orders orders, all well-formed"
echo "orders=$orders" >> "$FOUNDRY_OUTPUT"
