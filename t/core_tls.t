#!/usr/bin/perl

# Tests for TLS towards the core, in both directions: verification, names,
# certificates of both sides, and what messages say of it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

eval { require IO::Socket::SSL; 1 }
    or plan(skip_all => 'no IO::Socket::SSL');

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(45);

my $d = $t->testdir();

$SIG{PIPE} = 'IGNORE';       # close_notify to who is gone

ims_keys($t);
ims_pool($t, size => 20);

ca($_) for qw/ ca other /;
cert('core', 'ca', 'DNS:core.ims.example');
cert('ip', 'ca', 'IP:127.0.0.1');
cert('foreign', 'other', 'DNS:core.ims.example');
cert('edge', 'ca', 'DNS:edge.ims.example');
cert('edge2', 'other', 'DNS:edge.ims.example');

my $base = "ims_core_ssl_name core.ims.example;"
    . " ims_core_ssl_trusted_certificate $d/ca.crt;";

###############################################################################

# what a configuration must have

my $listen = "ims_listen_certificate $d/edge.crt;"
    . " ims_listen_certificate_key $d/edge.key;";

for (['no tls listen', 0, "ims_core_ssl on; $base",
        qr/"ims_core_ssl on" needs an "ims_listen" with "tls"/],
     ['tls listen alone', 1, $listen, qr/"tls" alone needs "ims_core_ssl on"/],
     ['no certificate', 1, "ims_core_ssl on; $base",
        qr/"tls" needs "ims_listen_certificate"/],
     ['no name', 1, "$listen ims_core_ssl on;"
        . " ims_core_ssl_trusted_certificate $d/ca.crt;",
        qr/"ims_core_ssl_name" to verify the core/],
     ['no CA', 1, "$listen ims_core_ssl on; ims_core_ssl_name x;",
        qr/needs "ims_core_ssl_trusted_certificate"/],
     ['no key', 1, "$listen $base ims_core_ssl on;"
        . " ims_core_ssl_certificate $d/edge.crt;", qr/need each other/],
     ['no file', 1, "$listen ims_core_ssl on; ims_core_ssl_name x;"
        . " ims_core_ssl_trusted_certificate $d/no.crt;", qr/no\.crt/],
     ['old protocol', 1, "ims_core_ssl_protocols TLSv1;", qr/TLSv1/],
     ['unverified', 1, "$listen ims_core_ssl on; ims_core_ssl_verify off;",
        undef])
{
    my ($name, $tls, $http, $says) = @$_;
    my ($good, $out) = ims_conf_error($t, conf($tls, $http));

    ok($says ? !$good && $out =~ $says : $good, $name) or diag($out);
}

###############################################################################

# verified both ways, messages in both directions

my $ask = "ims_listen_client_certificate $d/ca.crt;";
my $show = "ims_core_ssl_certificate $d/edge.crt;"
    . " ims_core_ssl_certificate_key $d/edge.key;";

$t->write_file_expand('nginx.conf',
    conf(1, "$listen $base $ask $show ims_core_ssl on;"));
$t->run();

my $core = core('core', SSL_verify_mode => 3, SSL_ca_file => "$d/ca.crt");
my $c = ImsClient->new();
$c->send($c->{ua}->register());
my ($m, $link) = $core->request();

is($m && $m->{method}, 'REGISTER', 'REGISTER over TLS');
is($link->get_servername(), 'core.ims.example', 'SNI');
like($link->peer_certificate('subject'), qr/CN=edge/, 'our certificate');
like(sip_header($m, 'Via'), qr{^SIP/2\.0/TLS 127\.0\.0\.1:\d+;}, 'Via');
my ($path) = sip_header($m, 'Path') =~ /(<[^>]+>)/;
like($path, qr/;transport=tls/, 'Path');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'registered');

$c->send($c->{ua}->request('SUBSCRIBE', to => $c->{id}{impu}, extra => [
    'Event: reg', 'Contact: <' . $c->{ua}->contact() . '>' ]));
($m) = $core->request();
like(sip_header($m, 'Record-Route'), qr/;transport=tls;lr>$/, 'Record-Route');
$core->reply($link, $m, 202, 'Accepted');
is($c->answer()->{status}, 202, 'answered');

# a large message takes more than one record

my $body = join '', map { chr 97 + $_ % 26 } 1 .. 40000;
$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
                           body => $body));
($m) = $core->request();
is(substr($m->{text}, -40000), $body, 'a large message');
$core->reply($link, $m, 200, 'OK', body => $body);
is(substr($c->answer()->{text}, -40000), $body, 'and answer');

# accepted

my %mine = (SSL_ca_file => "$d/ca.crt", SSL_verifycn_name => 'edge.ims.example',
            SSL_verifycn_scheme => 'http', SSL_hostname => 'edge.ims.example');
my %core = (%mine, SSL_cert_file => "$d/core.crt", SSL_key_file => "$d/core.key");

my $in = $core->connect(port(8070), %core);
ok($in, 'accepted with a certificate');
$core->send($in, message($c, "a", $body));
$m = $c->answer();
is(substr($m->{text}, -40000), $body, 'delivered');
$c->send(sip_reply($m, 200, 'OK', to_tag => 'a'));
(my $r, $link) = $core->request();
is($r->{status}, 200, 'answered');
is($link, $in, 'on the same connection');

refused('no certificate', %mine);
refused('a certificate of another CA', %mine,
    SSL_cert_file => "$d/edge2.crt", SSL_key_file => "$d/edge2.key");
refused('not TLS');
is(ims_status()->{counters}{core_tls}, 3, 'counted');

# a link that breaks: again, and what was sent goes once more

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
($m, $link) = $core->request();
$core->close($link);
my ($again, $next) = $core->request();
is($again && sip_header($again, 'Via'), sip_header($m, 'Via'), 'sent again');
$core->reply($next, $again, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

# a worker that leaves says goodbye: close_notify, then no more

$c->{ws}->close();
$t->reload();
ok(ims_wait(6, sub {
    my ($s) = grep { $_ == $next } IO::Select->new($next)->can_read(0.1);
    my $n = $s ? $s->sysread(my $buf, 4096) : undef;
    defined $n && $n == 0;
}), 'the core reads the end');
ok(Net::SSLeay::get_shutdown($next->_get_ssl_object()) & 2,
    'that says so itself: close_notify');
$core->close($_) for $core->links();
ok(ims_wait_log($t, qr/exited with code 0/), 'the worker left');

###############################################################################

# cores that are not who they should be: nothing is told to them

for (['another CA', 'foreign', '', qr/does not verify/],
     ['another name', 'ip', '', qr/is not for "core\.ims\.example"/])
{
    my ($name, $cert, $more, $says) = @$_;

    $core->{tls} = tls($cert);
    my $client = ImsClient->new();
    $client->send($client->{ua}->register());
    my $n = ims_count_log($t, $says);
    ok($core->silent(1.5), "$name: nothing is sent");
    cmp_ok(ims_count_log($t, $says), '>', $n, "$name: said")
        or diag(ims_count_log($t, $says));
    is($client->answer(5)->{status}, 503, "$name: 503");
}

$core->deaf();
$core->close($_) for $core->links();

# an address as the name; no verification; no certificate of ours

for (['address', 'ip', 'ims_core_ssl_name 127.0.0.1;'
        . " ims_core_ssl_trusted_certificate $d/ca.crt;", 200],
     ['unverified', 'foreign', 'ims_core_ssl_verify off;', 200])
{
    my ($name, $cert, $http, $status) = @$_;

    $t->write_file_expand('nginx.conf', conf(1, "$listen ims_core_ssl on; $http"));
    again();
    $core = core($cert);

    my $client = ImsClient->new();
    $client->send($client->{ua}->register());
    ($m, $link) = $core->request();
    ok($m, "$name: sent");
    $core->reply($link, $m, 200, 'OK') if $m;
    is(($client->answer() // {})->{status}, 200, "$name: answered");
    is($link && $link->get_servername(), undef, "$name: no SNI");
    $client->{ws}->close();
    $core->deaf();
    $core->close($_) for $core->links();
}

is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alerts');

###############################################################################

sub conf {
    my ($tls, $http) = @_;

    my $conf = ims_conf($t, http => $http);
    $conf =~ s/(ims_listen \s+ 127\.0\.0\.1:8070)/$1 tls/x if $tls;

    return $conf;
}


sub again {
    my $n = ims_count_log($t, qr/gracefully shutting down/);

    $t->reload();
    ims_wait_log($t, qr/gracefully shutting down/, count => $n + 1);
}


sub tls {
    my ($cert, %more) = @_;

    return { SSL_cert_file => "$d/$cert.crt", SSL_key_file => "$d/$cert.key",
             %more };
}


sub core {
    my ($cert, %more) = @_;

    return ImsCore->new(port(8060), tls => tls($cert, %more));
}


# a connection to the edge that comes to nothing

sub refused {
    my ($name, %tls) = @_;

    # of TLS 1.3 the client is done before the edge has judged it

    my $s = $core->connect(port(8070), %tls);
    my $text = '';

    $core->send($s, message($c, 'refused')) if $s;

    my $closed = !$s || ims_wait(5, sub {
        IO::Select->new($s)->can_read(0.1) or return 0;
        my $n = $s->sysread(my $buf, 4096);
        $text .= $buf // '';
        !$n;
    });

    ok($closed && $text !~ /SIP/, "$name: refused");
    $core->close($s) if $s;
}


sub message {
    my ($c, $id, $body) = @_;

    $body //= '';

    return join "\r\n", 'MESSAGE ' . $c->{ua}->contact() . ' SIP/2.0',
        'Via: SIP/2.0/TLS 127.0.0.1:' . port(8060) . ";branch=z9hG4bK$id",
        'Max-Forwards: 60', "Route: $path",
        'From: <sip:bob@ims.example>;tag=b1', "To: <$c->{id}{impu}>",
        "Call-ID: tls-$id", 'CSeq: 1 MESSAGE',
        'Content-Length: ' . length $body, '', $body;
}


sub ca {
    my ($name) = @_;

    must('req', '-x509', '-newkey', 'ec', '-pkeyopt',
         'ec_paramgen_curve:P-256', '-nodes', '-days', 7, '-subj',
         "/CN=$name CA", '-keyout', "$d/$name.key", '-out', "$d/$name.crt");
}


sub cert {
    my ($name, $ca, $for) = @_;

    $t->write_file("$name.ext", "subjectAltName=$for\n");
    must('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-subj', "/CN=$name", '-keyout', "$d/$name.key",
         '-out', "$d/$name.csr");
    must('x509', '-req', '-in', "$d/$name.csr", '-CA', "$d/$ca.crt",
         '-CAkey', "$d/$ca.key", '-CAcreateserial', '-days', 7,
         '-extfile', "$d/$name.ext", '-out', "$d/$name.crt");
}


sub must {
    my ($status, $out) = ims_run('openssl', @_);

    die "openssl @_: $out\n" if $status != 0;
}

###############################################################################
