# escape=`

FROM mcr.example.org/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
ENV TOOLS=C:\tools
WORKDIR /app
RUN New-Item -ItemType Directory C:\data ; `
    # nothing else yet
    Write-Host "done"
COPY testfile.txt c:\
ENTRYPOINT ["C:\\app\\run.exe", "--path", "C:\\data"]
