# A bar chart of months.csv as SVG. The title comes from the environment.
BEGIN { FS = ","; left = 60; top = 50; height = 240; step = 52; bar = 36 }
{ key[NR] = $1; cents[NR] = $3; if ($3 > max) max = $3 }
END {
    width = left + NR * step + 20
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, top + height + 40
    printf "  <title>%s</title>\n", escape(ENVIRON["TITLE"])
    printf "  <text x=\"%d\" y=\"28\" font-size=\"18\">%s</text>\n", left, escape(ENVIRON["TITLE"])
    for (i = 1; i <= NR; i++) {
        h = int(cents[i] / max * height + 0.5)
        x = left + (i - 1) * step
        printf "  <rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#4c6ef5\"/>\n", x, top + height - h, bar, h
        printf "  <text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x + bar / 2, top + height + 18, substr(key[i], 6)
        printf "  <text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%.0fk</text>\n", x + bar / 2, top + height - h - 6, cents[i] / 100000
    }
    print "</svg>"
}
function escape(text) {
    gsub(/&/, "\\&amp;", text)
    gsub(/</, "\\&lt;", text)
    gsub(/>/, "\\&gt;", text)
    return text
}
