FROM maven:3-eclipse-temurin-21 AS build
WORKDIR /build
COPY pom.xml .
RUN mvn -B dependency:go-offline
COPY src src
RUN mvn -B package -DskipTests
RUN <<SPLIT
set -eu
mkdir extracted
cd extracted
java -Djarmode=layertools -jar ../target/*.jar extract
SPLIT

FROM eclipse-temurin:21-jre
ENV JAVA_OPTS=""
VOLUME ["/var/lib/app", "/tmp"]
WORKDIR application
COPY --from=build /build/extracted/dependencies/ ./
COPY --from=build /build/extracted/application/ ./
EXPOSE 8080
ENTRYPOINT exec java $JAVA_OPTS -cp .:lib/* org.example.Main
