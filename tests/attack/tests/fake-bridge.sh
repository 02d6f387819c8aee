#!/bin/bash
# Stands in for the bridge: does on the real wire what the message's operations name, and reports what a vector of the test
# wants to read. It shows that the runner sees what a leaky bridge would do.
if [ "$1" = check ]; then
    line=$(grep -n 'allow' pipeline.yaml | cut -d: -f1)
    echo "[{\"code\":\"match_all\",\"file\":\"pipeline.yaml\",\"line\":$line}]"
    exit 2
fi
results='{\"ok\":false,\"code\":\"access-denied\"}'
ops=$(cat input.jsonl)
server=$(sed -n 's/.*servers: \["\(.*\):53"\].*/\1/p' portcullis.yaml)
case "$ops" in *web*)
    if exec 3<>/dev/tcp/93.184.216.34/80; then
        printf 'GET / HTTP/1.1\r\nconnection: close\r\n\r\n' >&3
        read -r _ status _ <&3
        results="{\\\"ok\\\":true,\\\"detail\\\":{\\\"status\\\":$status}}"
    fi ;;
esac
case "$ops" in *listener*) exec 3<>/dev/tcp/2606:2800:220:1::1/5432 && results='{\"ok\":true}' ;; esac
case "$ops" in *datagram*) printf x >/dev/udp/93.184.216.35/9000 ;; esac
case "$ops" in *multicast*) printf x >/dev/udp/239.1.1.1/5000 ;; esac
case "$ops" in *nobody*) printf x >/dev/udp/8.8.8.8/53 ;; esac
case "$ops" in *decoy*) exec 3<>/dev/tcp/169.254.169.254/80 ;; esac
case "$ops" in *other-port*) (exec 3<>/dev/tcp/93.184.216.34/8080) 2>/dev/null ;; esac
case "$ops" in *six*) (exec 3<>/dev/tcp/2606:2800:220:1::2/443) 2>/dev/null ;; esac
case "$ops" in *lookup*)
    exec 3<>/dev/udp/"$server"/53
    printf '\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02OK\x04test\x00\x00\x01\x00\x01' >&3
    dd bs=512 count=1 <&3 >answer 2>/dev/null ;;
esac
case "$ops" in *talk*) echo "a secret-canary in the log" >&2 ;; esac
case "$ops" in *hang*) exec sleep 600 ;; esac
echo '{"metadata":{"event_code":"net.connect.denied"},"status_detail":"addr.private","count":2}' >audit.jsonl
echo "{\"value\":\"{\\\"results\\\":[$results]}\"}" >out.jsonl
