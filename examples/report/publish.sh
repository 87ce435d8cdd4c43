# Puts the totals together: a Markdown summary, which Foundry shows with the node, and the revenue as an output.
set -eu
cents=$(awk -F , '{ sum += $3 } END { printf "%.0f", sum }' months.csv)
revenue=$((cents / 100)).$(printf '%02d' $((cents % 100)))
{
    echo "# $TITLE"
    echo
    echo "$ORDERS orders, revenue $revenue. Best month $BEST_MONTH, best region $BEST_REGION."
    echo
    echo "| region | orders | revenue |"
    echo "|---|---:|---:|"
    awk -F , '{ printf "| %s | %d | %.2f |\n", $1, $2, $3 / 100 }' regions.csv
} > summary.md
cat summary.md >> "$FOUNDRY_SUMMARY"
cat summary.md
echo "revenue=$revenue" >> "$FOUNDRY_OUTPUT"
