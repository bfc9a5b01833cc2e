from ubuntu:14.04
maintainer Somebody <somebody@example.org>

env DEBIAN_FRONTEND noninteractive
run apt-get update
run apt-get install nginx
run echo "daemon off;" >> /etc/nginx/nginx.conf
add site.tar.gz /var/www
workdir var/www
volume ["/var/log/nginx"]
expose 80 443
onbuild add . /var/www
cmd nginx
CMD ["nginx"]
