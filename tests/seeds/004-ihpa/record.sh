# Records what a day of the document's client would have left in a Prometheus: traffic of the ingress that repeats every
# hour, the use of the pods that it reaches, and which of them were ready. From the ten minutes that are under way on,
# four, three and two replicas are due. It goes on for half an hour, as if the client did. Leaves the folder `recorded`,
# and the present time in `recorded-at`.
#
# What follows takes a minute, and must not reach the next ten.
while [ $(($(date +%s) % 600)) -gt 450 ]; do sleep 1; done
now=$(date +%s)
date -u -d "@$now" +%FT%TZ > recorded-at
awk -v now="$now" '
BEGIN {
    # Thousandths of a core that are needed in each ten minutes of an hour.
    split("3.5 2.5 1.5 0.6 1.5 2.5", needed, " ")
    base = now - now % 600
    for (at = base - 93600; at <= now + 1800; at += 60) {
        step = int((at - base + 172800) / 600) % 6 + 1
        ready = int(needed[step] + 0.999)
        for (pod = 0; pod < 4; pod++) {
            labels = "namespace=\"default\",pod=\"nginx-" pod "\""
            if (pod < ready) used[pod] += 60 * needed[step] / 1000 / ready
            cpu = cpu sprintf("container_cpu_usage_seconds_total{%s,container=\"nginx\"} %.6f %d\n", labels, used[pod], at)
            up = up sprintf("kube_pod_status_ready{%s,condition=\"true\"} %d %d\n", labels, pod < ready, at)
        }
        requests += 60 * 100 * needed[step]
        ingress = ingress sprintf("nginx_ingress_controller_requests{namespace=\"default\",ingress=\"nginx-server\",service=\"nginx\",status=\"200\"} %.0f %d\n", requests, at)
    }
    printf "%s%s%s# EOF\n", cpu, up, ingress
}' > series.txt
promtool tsdb create-blocks-from openmetrics series.txt recorded > /dev/null
printf 'global: { scrape_interval: 1m }\n' > recorded.yml
