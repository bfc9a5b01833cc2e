FROM composer:2 AS vendor
COPY composer.json composer.lock /app/
RUN composer install --no-dev --no-scripts --prefer-dist

FROM php:8.3-apache
ARG WWW=/var/www/html
COPY <<EOF /etc/apache2/conf-available/shop.conf
<Directory $WWW/public>
    AllowOverride All
    SetEnv APP_ENV ${APP_ENV:-prod}
</Directory>
EOF
COPY <<-'INI' <<"SH" /usr/local/share/setup/
	memory_limit = 256M
	date.timezone = "UTC"
	INI
#!/bin/sh
exec apache2-foreground "$@"
SH
RUN docker-php-ext-install pdo_mysql opcache \
    && a2enmod rewrite
COPY --from=vendor /app/vendor ${WWW}/vendor
COPY --chown=www-data:www-data . ${WWW}
HEALTHCHECK NONE
CMD ["apache2-foreground"]
