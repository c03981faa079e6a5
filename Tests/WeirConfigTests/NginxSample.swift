/// One nginx file with about everything that is read or noticed.
enum NginxSample {
    static let text = """
        # A gateway as people run them.
        user www-data;
        worker_processes 4;
        pid /run/nginx.pid;
        error_log /var/log/nginx/error.log warn;
        load_module modules/ngx_stream_module.so;
        worker_rlimit_nofile 65535;
        worker_shutdown_timeout 90s;

        events {
            worker_connections 4096;
            multi_accept on;
            use epoll;
        }

        stream {
            log_format basic '$remote_addr [$time_local] '
                             '$protocol $status $bytes_sent';
            access_log /var/log/nginx/stream.log basic buffer=32k;
            limit_conn_zone $binary_remote_addr zone=addr:10m;
            resolver 10.0.0.53 [fd00::53]:5353 valid=30s ipv6=off status_zone=dns;
            resolver_timeout 3s;
            proxy_connect_timeout 2s;
            map_hash_bucket_size 128;

            map $ssl_preread_server_name $name {
                hostnames;
                default              $ssl_preread_server_name:$server_port;
                api.partner.com      partner;
                "*.partner.com"      partner;
                .static.example      10.9.0.1:443;
                blocked.example      "";
            }

            map $ssl_preread_alpn_protocols $backend {
                acme-tls/1  10.9.0.2:8443;
                default     $name;
            }

            map $status $loggable { ~^2 0; default 1; }

            upstream partner {
                zone partner 64k;
                server egress-1.internal:443 weight=3 max_fails=2 fail_timeout=15s;
                server 10.5.0.2:443 backup;
                server 10.5.0.3:443 down;
            }

            server {
                listen 443 reuseport backlog=1024 so_keepalive=on;
                listen [::]:443 ipv6only=on;
                ssl_preread on;
                preread_timeout 4s;
                preread_buffer_size 32k;
                proxy_pass ${backend};
                proxy_timeout 10m;
                proxy_next_upstream on;
                proxy_next_upstream_tries 2;
                proxy_next_upstream_timeout 6s;
                proxy_bind 203.0.113.10;
                proxy_half_close on;
                proxy_buffer_size 16k;
                tcp_nodelay on;
                allow 10.0.0.0/8;
                deny all;
                limit_conn addr 100;
            }

            server {
                listen 127.0.0.1:5432 proxy_protocol;
                set_real_ip_from 10.1.0.0/16;
                proxy_protocol_timeout 3s;
                proxy_pass partner;
                proxy_protocol on;
            }
        }
        """
}
