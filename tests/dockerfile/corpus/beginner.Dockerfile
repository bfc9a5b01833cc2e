FROM python:3
RUN cd /app
WORKDIR ~/app
COPY ../shared shared
COPY requirements.txt . # first
ENV PORT = 80
ENV COLOR=red SIZE=$COLOUR
VOLUME ./data:/data
EXPOSE 8080:80
CMD ['python', 'app.py']
ENTRYPOINT ["python app.py", "--debug"]
